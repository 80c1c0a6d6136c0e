//go:build linux

package engine

import (
	"io"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	docker "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"

	"github.com/berth-containers/berth/engine/change"
	"github.com/berth-containers/berth/engine/match"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
)

// ImageListOptions of [Engine.Images].
type ImageListOptions struct {
	Name    string // only this repository, or name
	All     bool
	Filters Filters
}

// ImageSummary is one name of an image, or an image without a name.
type ImageSummary struct {
	ID, Repository, Tag, Digest string
	Created                     time.Time
	Size                        int64
	Labels                      map[string]string
}

// none is what Docker prints for a name that is not there.
const none = "<none>"

// Images lists images, a line for each name.
func (e *Engine) Images(o ImageListOptions) ([]ImageSummary, error) {
	if err := checkFilters(o.Filters, "before", "dangling", "label", "reference", "since", "until"); err != nil {
		return nil, err
	}
	list, err := e.images.List()
	if err != nil {
		return nil, err
	}
	keep, err := e.imageFilter(o.Filters)
	if err != nil {
		return nil, err
	}
	var out []ImageSummary
	for _, img := range list {
		if !keep(img) {
			continue
		}
		base := ImageSummary{ID: img.ID, Repository: none, Tag: none, Digest: none, Created: img.Created, Size: img.Size, Labels: img.Config.Config.Labels}
		if len(img.Digests) > 0 {
			_, base.Digest, _ = strings.Cut(img.Digests[0], "@")
		}
		if len(img.Names) == 0 && o.Name == "" {
			if len(img.Digests) > 0 {
				if r, err := reference.Parse(img.Digests[0]); err == nil {
					base.Repository, _, _ = strings.Cut(r.Familiar(), "@")
				}
			}
			out = append(out, base)
		}
		for _, name := range img.Names {
			r, err := reference.Parse(name)
			if err != nil || !match.Repository(r, o.Name) || !match.Patterns(r, o.Filters["reference"]) {
				continue
			}
			s := base
			s.Tag = r.Tag
			s.Repository = strings.TrimSuffix(r.Familiar(), ":"+r.Tag)
			out = append(out, s)
		}
	}
	return out, nil
}

func (e *Engine) imageFilter(f Filters) (func(*image.Image) bool, error) {
	var before, since *image.Image
	for key, to := range map[string]**image.Image{"before": &before, "since": &since} {
		for _, name := range f[key] {
			img, err := e.images.Resolve(name)
			if err != nil {
				return nil, err
			}
			*to = img
		}
	}
	var dangling *bool
	for _, v := range f["dangling"] {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return nil, errs.Text(errs.Invalid, "invalid filter 'dangling="+v+"'")
		}
		dangling = &b
	}
	return func(img *image.Image) bool {
		switch {
		case before != nil && !img.Created.Before(before.Created), since != nil && !img.Created.After(since.Created):
			return false
		case dangling != nil && *dangling != (len(img.Names) == 0):
			return false
		case len(f["reference"]) > 0 && len(img.Names) == 0:
			return false
		}
		return match.Labels(img.Config.Config.Labels, f["label"])
	}, nil
}

// Import makes an image of a root file system and returns its id.
func (e *Engine) Import(r io.Reader, o ImportOptions) (string, error) {
	change, err := change.Parse(o.Changes)
	if err != nil {
		return "", err
	}
	message := o.Message
	if message == "" {
		message = "Imported from -"
	}
	img, err := e.images.Import(r, image.ImportOptions{Ref: o.Ref, Message: message, Platform: o.Platform, Change: change})
	if err != nil {
		return "", err
	}
	e.tellImage("import", img.ID, o.Ref)
	return img.ID, nil
}

// ImageInspection is what `image inspect` says: Docker's answer.
type ImageInspection struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string `json:",omitempty"`
	Created      string
	Author       string `json:",omitempty"`
	Config       *dockerspec.DockerOCIImageConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	GraphDriver  *storage.DriverData
	RootFS       docker.RootFS
	Metadata     docker.Metadata
	ManifestID   string   `json:"Manifest"`
	LayerIDs     []string `json:"-"`
}

// InspectImage describes an image.
func (e *Engine) InspectImage(name string) (*ImageInspection, error) {
	img, err := e.resolve(name)
	if err != nil {
		return nil, err
	}
	if err := e.images.WithNames(img); err != nil {
		return nil, err
	}
	out := &ImageInspection{ID: img.ID, RepoTags: []string{}, RepoDigests: []string{}, Created: img.Created.Format(time.RFC3339Nano), Author: img.Config.Author,
		Config: &img.Config.Config, Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS, Size: img.Size, ManifestID: img.Manifest,
		RootFS: docker.RootFS{Type: "layers"}, Metadata: docker.Metadata{LastTagTime: img.Added}}
	for _, name := range img.Names {
		if r, err := reference.Parse(name); err == nil {
			out.RepoTags = append(out.RepoTags, r.Familiar())
		}
	}
	for _, name := range img.Digests {
		if r, err := reference.Parse(name); err == nil {
			out.RepoDigests = append(out.RepoDigests, r.Familiar())
		}
	}
	if n := len(img.Config.History); n > 0 {
		out.Comment = img.Config.History[n-1].Comment
	}
	for _, l := range img.Layers {
		out.RootFS.Layers = append(out.RootFS.Layers, string(l.DiffID))
	}
	lowers, err := e.images.Lowers(img)
	if err != nil {
		return nil, err
	}
	data := map[string]string{"UpperDir": lowers[0]}
	if len(lowers) > 1 {
		data["LowerDir"] = strings.Join(lowers[1:], ":")
	}
	out.GraphDriver = &storage.DriverData{Name: "overlay2", Data: data}
	return out, nil
}
