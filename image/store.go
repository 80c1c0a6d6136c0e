//go:build linux

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/image/content"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
)

// Store is the folder of all images.
type Store struct {
	root  string
	blobs *content.Store
}

// Open makes a store of the engine's data root. It touches nothing.
func Open(root string) *Store { return &Store{root, content.Open(root)} }

// Blobs are the store's blobs.
func (s *Store) Blobs() *content.Store { return s.blobs }

// Image is one image of one platform.
type Image struct {
	ID       string                    `json:"id"`       // sha256:<hex> of the configuration
	Manifest string                    `json:"manifest"` // digest of the manifest
	Config   dockerspec.DockerOCIImage `json:"config"`
	Layers   []Layer                   `json:"layers"` // the lowest first
	Size     int64                     `json:"size"`   // bytes of all layers' files
	Created  time.Time                 `json:"created"`
	Added    time.Time                 `json:"added"` // to this store

	Names   []string `json:"-"` // "docker.io/library/alpine:latest"
	Digests []string `json:"-"` // "docker.io/library/alpine@sha256:…", as pulled
}

// Layer is one layer of an image.
type Layer struct {
	DiffID digest.Digest `json:"diffID"` // of the tar archive
	Blob   digest.Digest `json:"blob"`   // of the archive as it came, compressed or not
	Type   string        `json:"type"`   // media type of the blob
	Length int64         `json:"length"` // bytes of the blob
	Size   int64         `json:"size"`   // bytes of its files
}

func hexOf(d digest.Digest) string { return strings.TrimPrefix(string(d), "sha256:") }

func (s *Store) recordPath(id string) string {
	return filepath.Join(s.root, "images", strings.TrimPrefix(id, "sha256:")+".json")
}

// layerDir is a layer's folder; the tree is its fs.
func (s *Store) layerDir(diffID digest.Digest) string {
	return filepath.Join(s.root, "layers", hexOf(diffID))
}

// refPath is the link that a name is.
func (s *Store) refPath(r reference.Reference) string {
	dir := filepath.Join(s.root, "refs", r.Domain, r.Path)
	if r.Digest != "" {
		return filepath.Join(dir, "_digests", strings.TrimPrefix(r.Digest, "sha256:"))
	}
	return filepath.Join(dir, "_tags", r.Tag)
}

// Resolve finds an image by a name, a digest, its id, or a unique prefix of its id. A short name is first one of
// Docker's registry, then one that was made here (localhost/NAME).
func (s *Store) Resolve(name string) (*Image, error) {
	if strings.HasPrefix(name, "sha256:") {
		return s.byID(name)
	}
	ref, err := reference.Parse(name)
	if err != nil {
		if isHex(name) {
			return s.byPrefix(name)
		}
		return nil, err
	}
	for _, r := range candidates(name, ref) {
		id, err := os.Readlink(s.refPath(r))
		if err == nil {
			return s.load(id)
		}
	}
	if isHex(name) && len(name) >= 2 {
		if img, err := s.byPrefix(name); err == nil || !errs.Is(err, errs.NotFound) {
			return img, err
		}
	}
	return nil, s.notFound(ref)
}

// candidates are the whole names that a name may mean, in their order.
func candidates(name string, r reference.Reference) []reference.Reference {
	out := []reference.Reference{r}
	first, _, _ := strings.Cut(name, "/")
	if r.Domain == reference.DefaultDomain && first != reference.DefaultDomain && first != "index.docker.io" {
		local := r
		local.Domain, local.Path = "localhost", strings.TrimPrefix(r.Path, "library/")
		out = append(out, local)
	}
	return out
}

func isHex(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func (s *Store) load(id string) (*Image, error) {
	img := new(Image)
	err := atomicfile.ReadJSON(s.recordPath(id), img)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Text(errs.NotFound, "No such image: "+id)
	}
	return img, errs.Wrap("open image "+id, err)
}

func (s *Store) byID(id string) (*Image, error) {
	hex := strings.TrimPrefix(id, "sha256:")
	if !isHex(hex) {
		return nil, errs.Text(errs.Invalid, fmt.Sprintf("invalid reference format: %q", id))
	}
	if len(hex) == 64 {
		return s.load(id)
	}
	return s.byPrefix(hex)
}

func (s *Store) byPrefix(prefix string) (*Image, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	found := ""
	for _, id := range ids {
		if strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), prefix) {
			if found != "" {
				return nil, errs.Text(errs.Invalid, "ambiguous reference: several images have ids that begin with "+prefix)
			}
			found = id
		}
	}
	if found == "" {
		return nil, errs.Text(errs.NotFound, "No such image: "+prefix)
	}
	return s.load(found)
}

// notFound says that an image is missing, and which are there under other tags or registries.
func (s *Store) notFound(r reference.Reference) error {
	e := errs.Text(errs.NotFound, "No such image: "+r.Familiar())
	refs, err := s.references()
	if err != nil || len(refs) == 0 {
		return e.WithHint("no image is here: berth pull, berth load or berth import brings one")
	}
	var near, all []string
	for _, have := range refs {
		if have.ref.Tag == "" {
			continue
		}
		all = append(all, have.ref.Familiar())
		if filepath.Base(have.ref.Path) == filepath.Base(r.Path) {
			near = append(near, have.ref.Familiar())
		}
	}
	if len(near) > 0 {
		all = near
	}
	if len(all) > 5 {
		all = append(all[:5:5], "…")
	}
	return e.WithHint("here are: " + strings.Join(all, ", "))
}

// ids lists all images' ids.
func (s *Store) ids() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "images"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap("list images", err)
	}
	var out []string
	for _, e := range entries {
		if hex, ok := strings.CutSuffix(e.Name(), ".json"); ok && len(hex) == 64 && isHex(hex) {
			out = append(out, "sha256:"+hex)
		}
	}
	return out, nil
}

// unfinished begins the names of files and folders that get their names when they are whole.
const unfinished = ".new-"

// named is a name and the image it means.
type named struct {
	ref reference.Reference
	id  string
}

// references lists all names.
func (s *Store) references() ([]named, error) {
	base := filepath.Join(s.root, "refs")
	var out []named
	err := filepath.WalkDir(base, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink == 0 || strings.HasPrefix(entry.Name(), unfinished) {
			return ignoreMissing(err)
		}
		id, err := os.Readlink(file)
		if err != nil {
			return ignoreMissing(err)
		}
		rel, _ := filepath.Rel(base, filepath.Dir(file))
		repo, kind := filepath.Split(rel)
		domain, path, ok := strings.Cut(strings.TrimSuffix(repo, "/"), "/")
		if !ok {
			return nil
		}
		r := reference.Reference{Domain: domain, Path: path, Tag: entry.Name()}
		if kind == "_digests" {
			r.Tag, r.Digest = "", "sha256:"+entry.Name()
		}
		out = append(out, named{r, id})
		return nil
	})
	return out, errs.Wrap("list images", err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// List returns all images with their names, the newest first. A damaged one is left out; it never hides the others.
func (s *Store) List() ([]*Image, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	refs, err := s.references()
	if err != nil {
		return nil, err
	}
	var out []*Image
	for _, id := range ids {
		img, err := s.load(id)
		if err != nil {
			continue
		}
		img.addNames(refs)
		out = append(out, img)
	}
	slices.SortStableFunc(out, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	return out, nil
}

func (img *Image) addNames(refs []named) {
	for _, n := range refs {
		if n.id != img.ID {
			continue
		}
		if n.ref.Digest != "" {
			img.Digests = append(img.Digests, n.ref.String())
		} else {
			img.Names = append(img.Names, n.ref.String())
		}
	}
	slices.Sort(img.Names)
	slices.Sort(img.Digests)
}

// WithNames fills in an image's names.
func (s *Store) WithNames(img *Image) error {
	refs, err := s.references()
	if err == nil {
		img.Names, img.Digests = nil, nil
		img.addNames(refs)
	}
	return err
}

// Lowers are the trees of an image's layers, the top one first, as overlayfs wants them. A layer whose tree is not there
// is unpacked from its blob. They stay as long as the caller holds [Store.Writing], or a container has them.
func (s *Store) Lowers(img *Image) ([]string, error) {
	out := make([]string, 0, len(img.Layers))
	for i := len(img.Layers) - 1; i >= 0; i-- {
		l := &img.Layers[i]
		tree := filepath.Join(s.layerDir(l.DiffID), "fs")
		if _, err := os.Lstat(tree); err != nil {
			lock, err := s.Writing()
			if err == nil {
				err = s.unpackBlob(l)
				lock.Unlock()
			}
			if err != nil {
				return nil, err
			}
		}
		out = append(out, tree)
	}
	if len(out) == 0 {
		empty := filepath.Join(s.root, "layers", "empty") // an image from scratch has no layer at all
		if err := os.MkdirAll(empty, 0o755); err != nil {
			return nil, errs.Wrap("make empty layer", err)
		}
		out = append(out, empty)
	}
	return out, nil
}

// record writes down an image whose layers and blobs are there.
func (s *Store) record(img *Image) error {
	if err := os.MkdirAll(filepath.Dir(s.recordPath(img.ID)), 0o700); err != nil {
		return errs.Wrap("record image", err)
	}
	return errs.Wrap("record image", atomicfile.WriteJSON(s.recordPath(img.ID), img, atomicfile.Durable))
}

// setRef makes a name mean an image, from now on and at once.
func (s *Store) setRef(r reference.Reference, id string) error {
	link := s.refPath(r)
	dir := filepath.Dir(link)
	tmp := filepath.Join(dir, fmt.Sprintf("%s%d-%d", unfinished, os.Getpid(), time.Now().UnixNano()))
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.Symlink(id, tmp)
	}
	if err == nil {
		if err = os.Rename(tmp, link); err != nil {
			_ = os.Remove(tmp)
		}
	}
	if err == nil {
		err = atomicfile.SyncDir(dir)
	}
	return errs.Wrap("name image "+r.Familiar(), err)
}

// Touch notes that an image is used now.
func (s *Store) Touch(img *Image) {
	now := time.Now()
	_ = os.Chtimes(s.recordPath(img.ID), now, now) // on a disk that is read-only nothing is to be noted
}

// LastUsed is when an image was added, or last [Store.Touch]ed.
func (s *Store) LastUsed(img *Image) time.Time {
	fi, err := os.Stat(s.recordPath(img.ID))
	if err != nil {
		return img.Added
	}
	return fi.ModTime()
}

// Tag gives an image a further name.
func (s *Store) Tag(source, target string) error {
	lock, err := s.Writing()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	img, err := s.Resolve(source)
	if err != nil {
		return err
	}
	r, err := parseTag(target)
	if err != nil {
		return err
	}
	return s.setRef(r, img.ID)
}

// parseTag reads a name to give: it cannot have a digest.
func parseTag(name string) (reference.Reference, error) {
	r, err := reference.Parse(name)
	if err == nil && r.Digest != "" {
		return r, errs.Text(errs.Invalid, "refusing to create a tag with a digest reference")
	}
	return r, err
}

// marshal makes JSON as manifests and configurations have it.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // these types are always JSON
		return nil
	}
	return b
}

// AddImage records an image whose layers are in the store.
func (s *Store) AddImage(manifest, config []byte, layers []Layer) (*Image, error) {
	id, err := s.blobs.Write(config)
	if err != nil {
		return nil, err
	}
	m, err := s.blobs.Write(manifest)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: string(id), Manifest: string(m), Layers: layers, Added: time.Now().UTC()}
	if err := json.Unmarshal(config, &img.Config); err != nil {
		return nil, errs.New(errs.Invalid, "read configuration "+img.ID, err)
	}
	return img, s.finish(img)
}

// NamePulled gives an image the name and the digest by which it was pulled.
func (s *Store) NamePulled(r reference.Reference, d string, img *Image) error {
	byDigest := reference.Reference{Domain: r.Domain, Path: r.Path, Digest: d}
	if err := s.setRef(byDigest, img.ID); err != nil {
		return err
	}
	if r.Digest != "" {
		return nil
	}
	return s.setRef(r, img.ID)
}
