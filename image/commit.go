//go:build linux

package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/klauspost/compress/gzip"

	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
)

// CommitOptions of Store.Commit.
type CommitOptions struct {
	Ref, Author, Message string
	CreatedBy            string                                 // what the history says the layer was made by
	Change               func(*dockerspec.DockerOCIImage) error // may be nil
}

// Commit makes an image of another one and what was written over it: the upper folder of an overlay.
func (s *Store) Commit(base *Image, upper string, o CommitOptions) (*Image, error) {
	if o.Ref != "" {
		if _, err := parseTag(o.Ref); err != nil {
			return nil, err
		}
	}
	cfg := base.Config
	cfg.History = slices.Clone(base.Config.History)
	cfg.Author = o.Author
	if o.Change != nil {
		if err := o.Change(&cfg); err != nil {
			return nil, err
		}
	}
	date, err := sourceDate()
	if err != nil {
		return nil, err
	}
	lock, err := s.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	r, w := io.Pipe()
	go func() {
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		err := layer.Pack(z, upper, layer.PackOptions{Upper: true, Latest: date})
		w.CloseWithError(errors.Join(err, z.Close()))
	}()
	l, err := s.AddLayer(r, "", "")
	r.Close()
	if err != nil {
		return nil, errs.Wrap("commit", err)
	}
	created := date
	if date.IsZero() {
		created = time.Now().UTC()
	}
	cfg.History = append(cfg.History, v1.History{Created: &created, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Message})
	return s.assemble(&cfg, append(slices.Clone(base.Layers), *l), created, o.Ref)
}

// sourceDate is the time in the environment's SOURCE_DATE_EPOCH, seconds since 1970: images are made as if it were then
// (https://reproducible-builds.org/specs/source-date-epoch/). Zero means that there is none.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, errs.Text(errs.Invalid, fmt.Sprintf("invalid SOURCE_DATE_EPOCH %q: want seconds since 1970", text))
	}
	return time.Unix(n, 0).UTC(), nil
}

// History tells how an image was made, the newest step first.
type History struct {
	ID        string // of the image, for the newest step; "<missing>" otherwise
	Created   time.Time
	CreatedBy string
	Size      int64 // bytes of the layer's files
	Comment   string
	Tags      []string
}

// History lists the steps that made an image.
func (s *Store) History(img *Image) []History {
	var out []History
	next := 0
	for _, h := range img.Config.History {
		e := History{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			e.Created = *h.Created
		}
		if !h.EmptyLayer && next < len(img.Layers) {
			e.Size = img.Layers[next].Size
			next++
		}
		out = append(out, e)
	}
	for ; next < len(img.Layers); next++ { // a history that tells less than there is
		out = append(out, History{ID: "<missing>", Size: img.Layers[next].Size})
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID, out[0].Tags = img.ID, img.Names
	}
	return out
}
