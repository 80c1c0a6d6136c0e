package layer

import (
	"bufio"
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/berth-containers/berth/internal/errs"
)

// Compression is how a stream is packed.
type Compression string

// The ways that image-spec knows.
const (
	None Compression = ""
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Decompress looks at the first bytes of a stream and unpacks it. Close ends the unpacking, not the stream.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, None, errs.Wrap("read archive", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, Gzip, errs.New(errs.Invalid, "read archive", err)
		}
		return z, Gzip, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, Zstd, errs.New(errs.Invalid, "read archive", err)
		}
		return z.IOReadCloser(), Zstd, nil
	}
	return io.NopCloser(in), None, nil
}
