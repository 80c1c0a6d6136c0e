//go:build linux

package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/image/busybox"
	"github.com/berth-containers/berth/image/content"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// ImportOptions of Store.Import.
type ImportOptions struct {
	Ref      string // name of the image; "" has none
	Message  string
	Platform string                                 // os/arch[/variant]; "" is this host's
	Change   func(*dockerspec.DockerOCIImage) error // changes to the configuration; may be nil
	Created  time.Time                              // zero: now
}

// Import makes an image of a root file system: a tar archive, compressed or not.
func (s *Store) Import(r io.Reader, o ImportOptions) (*Image, error) {
	cfg := dockerspec.DockerOCIImage{}
	cfg.Platform = Host()
	if o.Platform != "" {
		p, err := ParsePlatform(o.Platform)
		if err == nil && p.OS != "linux" {
			err = errs.Text(errs.Invalid, fmt.Sprintf("invalid platform %q: want linux/ARCH[/VARIANT]", o.Platform))
		}
		if err != nil {
			return nil, err
		}
		cfg.Platform = p
	}
	if o.Change != nil {
		if err := o.Change(&cfg); err != nil {
			return nil, err
		}
	}
	if o.Ref != "" {
		if _, err := parseTag(o.Ref); err != nil {
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
	l, err := s.AddLayer(r, "", "")
	if err != nil {
		return nil, errs.Wrap("import image", err)
	}
	if o.Created.IsZero() {
		o.Created = date
	}
	if o.Created.IsZero() {
		o.Created = time.Now().UTC()
	}
	cfg.History = []v1.History{{Created: &o.Created, Comment: o.Message}}
	return s.assemble(&cfg, []Layer{*l}, o.Created, o.Ref)
}

// assemble makes an image of layers that are in the store.
func (s *Store) assemble(cfg *dockerspec.DockerOCIImage, layers []Layer, created time.Time, ref string) (*Image, error) {
	cfg.Created = &created
	cfg.RootFS = v1.RootFS{Type: "layers"}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	img := &Image{Layers: layers, Added: time.Now().UTC()}
	for _, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, l.DiffID)
		manifest.Layers = append(manifest.Layers, v1.Descriptor{MediaType: l.Type, Digest: l.Blob, Size: l.Length})
	}
	img.Config = *cfg
	body := marshal(cfg)
	id, err := s.blobs.Write(body)
	if err != nil {
		return nil, err
	}
	manifest.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: id, Size: int64(len(body))}
	m, err := s.blobs.Write(marshal(manifest))
	if err != nil {
		return nil, err
	}
	img.ID, img.Manifest = string(id), string(m)
	if err := s.finish(img); err != nil {
		return nil, err
	}
	if ref == "" {
		return img, nil
	}
	r, err := parseTag(ref)
	if err != nil {
		return nil, err
	}
	return img, s.setRef(r, img.ID)
}

// AddLayer stores a layer and unpacks it in one pass: stream → blob and decompression → tree. want and diffID are the
// digests that the blob and its archive must have, or "".
func (s *Store) AddLayer(r io.Reader, want, diffID digest.Digest) (*Layer, error) {
	blob, err := s.blobs.Writer()
	if err != nil {
		return nil, err
	}
	defer blob.Abort()
	return s.unpackInto(blob, io.TeeReader(r, blob), want, diffID)
}

// ContinueLayer is AddLayer of a blob that was begun: what is there of it is read, then r is, from there on. On an error
// the blob is still open.
func (s *Store) ContinueLayer(blob *content.Writer, r io.Reader, want, diffID digest.Digest) (*Layer, error) {
	return s.unpackInto(blob, io.MultiReader(blob.Replay(), io.TeeReader(r, blob)), want, diffID)
}

// unpackInto makes the tree of a layer whose bytes, as they are read, become a blob. Nothing has a name before both
// digests are right; "" is any.
func (s *Store) unpackInto(blob *content.Writer, r io.Reader, want, diffID digest.Digest) (*Layer, error) {
	stage, err := s.stage()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(stage)
	l, err := unpack(r, filepath.Join(stage, "fs"))
	if err != nil {
		return nil, err
	}
	if diffID != "" && l.DiffID != diffID {
		return nil, errs.New(errs.Invalid, "store layer "+string(want), fmt.Errorf("its content has the digest %s, the configuration says %s", l.DiffID, diffID))
	}
	l.Length = blob.Size()
	if l.Blob, err = blob.Commit(want); err != nil {
		return nil, err
	}
	return l, s.keepTree(stage, l)
}

// unpack reads a layer's stream to its end and makes its tree.
func unpack(r io.Reader, tree string) (*Layer, error) {
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, err
	}
	plain, compression, err := layer.Decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	sum := sha256.New()
	all := layer.NewAhead(io.TeeReader(plain, sum))
	defer all.Close()
	l := &Layer{Type: mediaType(compression)}
	if l.Size, err = layer.Apply(all, tree, layer.Limits{}); err != nil {
		return nil, err
	}
	// An archive may be padded behind its end; that is a part of its digest.
	if _, err := io.Copy(io.Discard, all); err != nil {
		return nil, errs.New(errs.Invalid, "read layer", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, errs.Wrap("read layer", err)
	}
	l.DiffID = digest.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil)))
	return l, nil
}

func mediaType(c layer.Compression) string {
	switch c {
	case layer.Gzip:
		return v1.MediaTypeImageLayerGzip
	case layer.Zstd:
		return v1.MediaTypeImageLayerZstd
	}
	return v1.MediaTypeImageLayer
}

// stage makes a folder in which a layer is put together.
func (s *Store) stage() (string, error) {
	dir := filepath.Join(s.root, "layers")
	err := os.MkdirAll(dir, 0o711)
	if err == nil {
		dir, err = os.MkdirTemp(dir, unfinished)
	}
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	return dir, errs.Wrap("unpack layer", err)
}

// layerFile is beside a layer's tree: which blob it was made of.
const layerFile = "layer.json"

// keepTree gives a staged tree its name. Another process may have been quicker with the same layer: then there is
// nothing to do, unless what is there is not whole.
func (s *Store) keepTree(stage string, l *Layer) error {
	if err := atomicfile.WriteJSON(filepath.Join(stage, layerFile), l, atomicfile.Fast); err != nil {
		return errs.Wrap("unpack layer", err)
	}
	// All files of it are on disk before its name is: a name means that it is whole.
	f, err := os.Open(stage)
	if err == nil {
		err = unix.Syncfs(int(f.Fd()))
		f.Close()
	}
	if err != nil {
		return errs.Wrap("unpack layer", err)
	}
	target := s.layerDir(l.DiffID)
	err = os.Rename(stage, target)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return errs.Wrap("unpack layer", s.completeTree(stage, target, l))
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(target))
	}
	return errs.Wrap("unpack layer", err)
}

// completeTree makes a layer's folder, which is there already, what a stage is. It is only looked at closely when its
// blob or what is written down of it was missing: a tree beside that may be damaged, too.
func (s *Store) completeTree(stage, target string, l *Layer) error {
	fresh, tree := filepath.Join(stage, "fs"), filepath.Join(target, "fs")
	_, missing := os.Lstat(tree)
	if _, known := s.LayerOf(l.DiffID); known && missing == nil {
		return nil
	}
	if missing != nil {
		if err := os.Rename(fresh, tree); err != nil {
			return err
		}
	} else if changes, err := layer.Compare(fresh, tree); err != nil || len(changes) > 0 {
		if err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, tree, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(stage, layerFile), filepath.Join(target, layerFile)); err != nil {
		return err
	}
	return atomicfile.SyncDir(target)
}

// unpackBlob makes a layer's tree again, of its blob.
func (s *Store) unpackBlob(l *Layer) error {
	stage, err := s.stageBlob(l)
	if stage != "" {
		defer os.RemoveAll(stage)
	}
	if err != nil {
		return err
	}
	return s.keepTree(stage, l)
}

// stageBlob unpacks a layer's blob into a stage, which the caller removes, also after an error.
func (s *Store) stageBlob(l *Layer) (stage string, err error) {
	f, err := s.blobs.Open(l.Blob)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if stage, err = s.stage(); err != nil {
		return stage, err
	}
	got, err := unpack(f, filepath.Join(stage, "fs"))
	if err != nil {
		return stage, errs.Wrap("unpack layer "+string(l.DiffID), err)
	}
	if got.DiffID != l.DiffID {
		return stage, errs.New(errs.Internal, "unpack layer "+string(l.DiffID), fmt.Errorf("its content has the digest %s", got.DiffID))
	}
	return stage, nil
}

// DefaultName is the image that the program carries.
const DefaultName = "localhost/busybox:latest"

// Superseded reports whether this is a default image that another version of this program has put into the store: what it
// carries has been mended since, or will be.
func (img *Image) Superseded() bool {
	c := img.Config.Config
	if len(img.Layers) != 1 || c.Labels[v1.AnnotationVersion] == "" || len(img.Config.History) != 1 ||
		img.Config.History[0].Comment != busybox.Name+" "+c.Labels[v1.AnnotationVersion] {
		return false // it is the user's own
	}
	archive, err := busybox.RootFS()
	return err == nil && img.Layers[0].Length != int64(len(archive))
}

// SeedDefault puts the image that the program carries into the store, if there is none of that name, or one of another
// version of the program.
func (s *Store) SeedDefault() (*Image, error) {
	if img, err := s.Resolve(DefaultName); err == nil && !img.Superseded() {
		return img, nil
	}
	if err := os.MkdirAll(s.root, 0o711); err != nil {
		return nil, errs.Wrap("seed default image", err)
	}
	lock, err := flock.Exclusive(filepath.Join(s.root, "seed.lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if img, err := s.Resolve(DefaultName); err == nil && !img.Superseded() {
		return img, nil
	}
	archive, err := busybox.RootFS()
	if err != nil {
		return nil, err
	}
	source, err := busybox.Source()
	if err != nil {
		return nil, err
	}
	return s.Import(bytes.NewReader(archive), ImportOptions{Ref: DefaultName, Message: busybox.Name + " " + source.Version, Created: source.Date,
		Change: func(c *dockerspec.DockerOCIImage) error {
			c.Config.Cmd = []string{"sh"}
			c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
			c.Config.Labels = map[string]string{v1.AnnotationLicenses: source.License, v1.AnnotationSource: source.Source, v1.AnnotationVersion: source.Version}
			return nil
		}})
}
