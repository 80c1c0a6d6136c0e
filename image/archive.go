//go:build linux

package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
)

// dockerManifest is an entry of manifest.json, which docker save has written since version 1.10.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Save writes images as an archive that docker load and every reader of OCI layouts take: an OCI layout, with Docker's
// manifest.json beside its index.
func (s *Store) Save(w io.Writer, names []string) error {
	out := tar.NewWriter(w)
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	var manifests []dockerManifest
	written := map[digest.Digest]bool{}
	put := func(d digest.Digest) error { return s.putBlob(out, d, written) }
	for _, name := range names {
		img, err := s.Resolve(name)
		if err != nil {
			return err
		}
		m := dockerManifest{Config: blobName(digest.Digest(img.ID)), RepoTags: []string{}}
		size, _ := s.blobs.Has(digest.Digest(img.Manifest))
		descriptor := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.Digest(img.Manifest), Size: size}
		if whole := s.named(name, img); whole != "" {
			r, err := reference.Parse(whole)
			if err != nil {
				return err
			}
			m.RepoTags = append(m.RepoTags, r.Familiar())
			descriptor.Annotations = map[string]string{v1.AnnotationRefName: r.Tag, "io.containerd.image.name": r.String()}
		}
		for _, l := range img.Layers {
			m.Layers = append(m.Layers, blobName(l.Blob))
			if err := put(l.Blob); err != nil {
				return err
			}
		}
		for _, d := range []string{img.ID, img.Manifest} {
			if err := put(digest.Digest(d)); err != nil {
				return err
			}
		}
		index.Manifests, manifests = append(index.Manifests, descriptor), append(manifests, m)
	}
	for _, f := range []struct {
		name string
		body any
	}{{"index.json", index}, {"manifest.json", manifests}, {v1.ImageLayoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}}} {
		b := marshal(f.body)
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(b))}); err != nil {
			return errs.Wrap("save images", err)
		}
		if _, err := out.Write(b); err != nil {
			return errs.Wrap("save images", err)
		}
	}
	return errs.Wrap("save images", out.Close())
}

func blobName(d digest.Digest) string { return "blobs/sha256/" + hexOf(d) }

func (s *Store) putBlob(out *tar.Writer, d digest.Digest, written map[digest.Digest]bool) error {
	if written[d] {
		return nil
	}
	written[d] = true
	f, err := s.blobs.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil {
		err = out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: blobName(d), Mode: 0o644, Size: fi.Size()})
	}
	if err == nil {
		_, err = io.Copy(out, f)
	}
	return errs.Wrap("save images", err)
}

// loading begins the names of folders with archives that are being read.
const loading = ".load-"

// Load reads images from an archive: of docker save, or an OCI layout; compressed or not. It returns what it loaded,
// with their names.
func (s *Store) Load(r io.Reader) ([]*Image, error) {
	lock, err := s.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	dir, err := os.MkdirTemp(s.root, loading)
	if err != nil {
		return nil, errs.Wrap("load images", err)
	}
	defer os.RemoveAll(dir)
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if _, err := layer.Apply(plain, dir, layer.Limits{}); err != nil {
		return nil, errs.Wrap("load images", err)
	}
	return s.LoadDir(dir)
}

// LoadDir reads images from a folder with an OCI layout, or with what docker save packs.
func (s *Store) LoadDir(dir string) ([]*Image, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errs.Wrap("load images", err)
	}
	defer root.Close()
	lock, err := s.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	l := &loader{s: s, root: root}
	if _, err := root.Stat("index.json"); err == nil {
		return l.layout()
	}
	if _, err := root.Stat("manifest.json"); err == nil {
		return l.docker()
	}
	return nil, errs.New(errs.Invalid, "load images", errors.New("there is neither an index.json (OCI layout) nor a manifest.json (docker save)")).
		WithHint("a root file system is for `berth import`")
}

// loader reads a folder that came from anywhere.
type loader struct {
	s    *Store
	root *os.Root
}

const largestJSON = 16 << 20

func (l *loader) readJSON(name string, v any) error {
	f, err := l.root.Open(path.Clean(name))
	if err != nil {
		return errs.New(errs.Invalid, "load images", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largestJSON))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return errs.New(errs.Invalid, "read "+name, err)
	}
	return nil
}

// layout loads an OCI layout; an index of several platforms gives the host's.
func (l *loader) layout() ([]*Image, error) {
	var index v1.Index
	if err := l.readJSON("index.json", &index); err != nil {
		return nil, err
	}
	var out []*Image
	for _, d := range index.Manifests {
		name := d.Annotations["io.containerd.image.name"]
		if name == "" {
			name = d.Annotations[v1.AnnotationRefName]
		}
		img, err := l.manifest(d, 0)
		if err != nil {
			return out, err
		}
		if img == nil { // of another platform
			continue
		}
		if r, err := parseTag(name); name != "" && err == nil {
			if err := l.s.setRef(r, img.ID); err != nil {
				return out, err
			}
		}
		out = append(out, img)
	}
	if len(out) == 0 {
		return nil, errs.New(errs.Invalid, "load images", errors.New("there is none for this host's platform"))
	}
	return out, nil
}

// manifest loads what a descriptor means; nil is an image of another platform.
func (l *loader) manifest(d v1.Descriptor, depth int) (*Image, error) {
	if depth > 3 {
		return nil, errs.New(errs.Invalid, "load images", errors.New("indexes within indexes without an end"))
	}
	if d.Platform != nil && !fits(d.Platform, Host()) {
		return nil, nil
	}
	b, err := l.small(d.Digest)
	if err != nil {
		return nil, err
	}
	var both struct {
		v1.Manifest
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(b, &both); err != nil {
		return nil, errs.New(errs.Invalid, "read manifest "+string(d.Digest), err)
	}
	for _, inner := range both.Manifests {
		if img, err := l.manifest(inner, depth+1); img != nil || err != nil {
			return img, err
		}
	}
	if len(both.Manifests) > 0 || both.Config.Digest == "" {
		return nil, nil
	}
	return l.image(b, &both.Manifest)
}

// small reads a blob of JSON of the layout and stores it.
func (l *loader) small(d digest.Digest) ([]byte, error) {
	f, err := l.open(blobName(d))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largestJSON))
	if err != nil {
		return nil, errs.New(errs.Invalid, "read blob "+string(d), err)
	}
	if digest.FromBytes(b) != d {
		return nil, errs.New(errs.Invalid, "read blob "+string(d), fmt.Errorf("its content has the digest %s", digest.FromBytes(b)))
	}
	_, err = l.s.blobs.Write(b)
	return b, err
}

func (l *loader) open(name string) (*os.File, error) {
	f, err := l.root.Open(path.Clean(name))
	if err != nil {
		return nil, errs.New(errs.Invalid, "load images", err)
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errs.New(errs.Invalid, "load images", errors.Join(err, fmt.Errorf("%s is no file", name)))
	}
	return f, nil
}

// image stores an image: its configuration, its layers, its record.
func (l *loader) image(body []byte, m *v1.Manifest) (*Image, error) {
	cfg, err := l.small(m.Config.Digest)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: string(m.Config.Digest), Manifest: string(digest.FromBytes(body)), Added: time.Now().UTC()}
	if err := json.Unmarshal(cfg, &img.Config); err != nil {
		return nil, errs.New(errs.Invalid, "read configuration "+img.ID, err)
	}
	if len(img.Config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, errs.New(errs.Invalid, "load image "+img.ID, fmt.Errorf("%d layers, and the configuration has %d", len(m.Layers), len(img.Config.RootFS.DiffIDs)))
	}
	for i, d := range m.Layers {
		added, err := l.layer(blobName(d.Digest), d.Digest, img.Config.RootFS.DiffIDs[i])
		if err != nil {
			return nil, err
		}
		img.Layers = append(img.Layers, *added)
	}
	return img, l.s.finish(img)
}

// finish records an image whose layers are in the store.
func (s *Store) finish(img *Image) error {
	for _, l := range img.Layers {
		img.Size += l.Size
	}
	if img.Config.Created != nil {
		img.Created = *img.Config.Created
	}
	return s.record(img)
}

// layer stores one layer, or finds it: what the store has already is not unpacked again.
func (l *loader) layer(name string, blob, diffID digest.Digest) (*Layer, error) {
	if have, ok := l.s.LayerOf(diffID); ok && (blob == "" || have.Blob == blob) {
		return have, nil
	}
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	added, err := l.s.AddLayer(f, blob, diffID)
	return added, errs.Wrap("load layer "+name, err)
}

// LayerOf finds a layer, by the digest of its tar archive, whose blob is there.
func (s *Store) LayerOf(diffID digest.Digest) (*Layer, bool) {
	l := new(Layer)
	b, err := os.ReadFile(filepath.Join(s.layerDir(diffID), layerFile))
	if err != nil || json.Unmarshal(b, l) != nil || l.DiffID != diffID {
		return nil, false
	}
	_, ok := s.blobs.Has(l.Blob)
	return l, ok
}

// docker loads what older versions of docker save pack: layers as files named in manifest.json. The manifest that such
// an image has no more is made anew.
func (l *loader) docker() ([]*Image, error) {
	var manifests []dockerManifest
	if err := l.readJSON("manifest.json", &manifests); err != nil {
		return nil, err
	}
	var out []*Image
	for _, m := range manifests {
		f, err := l.open(m.Config)
		if err != nil {
			return out, err
		}
		body, err := io.ReadAll(io.LimitReader(f, largestJSON))
		f.Close()
		if err != nil {
			return out, errs.New(errs.Invalid, "read configuration", err)
		}
		img := &Image{ID: string(digest.FromBytes(body)), Added: time.Now().UTC()}
		if err := json.Unmarshal(body, &img.Config); err != nil || len(img.Config.RootFS.DiffIDs) != len(m.Layers) {
			return out, errs.New(errs.Invalid, "read configuration "+m.Config, errors.Join(err, errors.New("it does not fit the layers")))
		}
		if _, err := l.s.blobs.Write(body); err != nil {
			return out, err
		}
		manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
			Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.Digest(img.ID), Size: int64(len(body))}}
		for i, name := range m.Layers {
			added, err := l.layer(name, "", img.Config.RootFS.DiffIDs[i])
			if err != nil {
				return out, err
			}
			img.Layers = append(img.Layers, *added)
			manifest.Layers = append(manifest.Layers, v1.Descriptor{MediaType: added.Type, Digest: added.Blob, Size: added.Length})
		}
		d, err := l.s.blobs.Write(marshal(manifest))
		if err != nil {
			return out, err
		}
		img.Manifest = string(d)
		if err := l.s.finish(img); err != nil {
			return out, err
		}
		for _, name := range m.RepoTags {
			if r, err := parseTag(name); err == nil {
				if err := l.s.setRef(r, img.ID); err != nil {
					return out, err
				}
			}
		}
		out = append(out, img)
	}
	return out, nil
}
