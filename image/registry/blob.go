//go:build linux

package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/internal/errs"
)

// enough is how many bytes more of a blob make its tries count from the begin again.
const enough = 256 << 10

// stream reads a blob of a registry, from byte at to its end. When the connection breaks it goes on where it was; it is
// the same blob, or its digest will tell.
type stream struct {
	ctx  context.Context
	from *client
	blob v1.Descriptor
	at   int64
	tell func(at int64)

	body     io.ReadCloser
	tries    int   // in vain, since mark
	mark     int64 // where at was then
	rejoined bool  // it consists of parts
	ended    error // what ended it, other than its end
}

// Read is io.Reader's.
func (s *stream) Read(p []byte) (int, error) {
	if s.ended != nil {
		return 0, s.ended
	}
	for s.at < s.blob.Size {
		n, err := s.some(p[:min(int64(len(p)), s.blob.Size-s.at)])
		if n > 0 {
			s.at += int64(n)
			s.tell(s.at)
			return n, nil // the error comes again
		}
		if err == nil {
			continue
		}
		if err = s.resume(err); err != nil {
			s.ended = err
			return 0, err
		}
	}
	return 0, io.EOF
}

func (s *stream) some(p []byte) (int, error) {
	if s.body == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	n, err := s.body.Read(p)
	if n == 0 && err == io.EOF {
		err = lie("the registry ends it after %d of %d bytes", s.at, s.blob.Size)
	}
	return n, err
}

// resume decides whether it goes on after an error, and returns the error if not.
func (s *stream) resume(err error) error {
	s.Close()
	if !passing(err) {
		return err
	}
	if s.at-s.mark >= enough {
		s.tries, s.mark = 0, s.at
	}
	s.tries++
	if s.tries >= s.from.tries {
		return fmt.Errorf("the connection broke %d times, at last after %d of %d bytes: %w", s.tries, s.at, s.blob.Size, err)
	}
	s.rejoined = s.rejoined || s.at > 0
	return s.from.wait(s.ctx, s.tries, 0)
}

// open asks for what is missing (RFC 9110, 14).
func (s *stream) open() error {
	header := http.Header{}
	if s.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", s.at, s.blob.Size-1))
	}
	resp, err := s.from.get(s.ctx, "blobs", string(s.blob.Digest), header)
	if err != nil {
		return err
	}
	skip, length := int64(0), s.blob.Size
	switch resp.StatusCode {
	case http.StatusOK:
		skip = s.at // it does not know ranges
	case http.StatusPartialContent:
		length -= s.at
		if err = checkRange(resp.Header.Get("Content-Range"), s.at, s.blob.Size); s.at == 0 {
			err = lie("the registry answers with a part that nobody asked for")
		}
	default:
		err = transport.CheckError(resp, http.StatusOK, http.StatusPartialContent)
	}
	if err == nil && resp.ContentLength >= 0 && resp.ContentLength != length {
		err = lie("the registry has %d bytes of it, the manifest says %d", resp.ContentLength, length)
	}
	if err == nil && skip > 0 {
		_, err = io.CopyN(io.Discard, resp.Body, skip)
	}
	if err != nil {
		_ = resp.Body.Close()
		return err
	}
	s.body = resp.Body
	return nil
}

// checkRange refuses a part that is another than the one that was asked for: from a byte to the end.
func checkRange(text string, at, size int64) error {
	var first, last, all int64
	if n, _ := fmt.Sscanf(text, "bytes %d-%d/%d", &first, &last, &all); n < 2 || first != at || last != size-1 || n == 3 && all != size {
		return lie("asked for the bytes %d-%d of %d, the registry answers with %q", at, size-1, size, text)
	}
	return nil
}

// Close ends the connection.
func (s *stream) Close() {
	if s.body != nil {
		_ = s.body.Close()
		s.body = nil
	}
}

// broken reports whether what ended it says nothing against the bytes that came.
func (s *stream) broken() bool { return s.ended != nil && !errs.Is(s.ended, errs.Invalid) }

// lie is an answer that contradicts the manifest or itself.
func lie(format string, args ...any) error {
	return errs.Text(errs.Invalid, fmt.Sprintf(format, args...))
}
