//go:build linux

package space

import (
	"archive/tar"
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
)

func open(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.Open(engine.Options{Root: t.TempDir(), State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func create(t *testing.T, e *engine.Engine, image string) {
	t.Helper()
	cfg := engine.Config{Name: "cc"}
	cfg.Image, cfg.Cmd, cfg.HostConfig.NetworkMode = image, []string{"/bin/true"}, "none"
	if _, err := e.Create(cfg); err != nil {
		t.Fatal(err)
	}
}

// add makes an image with one file of so many bytes.
func add(t *testing.T, e *engine.Engine, name string, size int) *image.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "file-" + strings.ReplaceAll(name, "/", "-"), Mode: 0o644, Size: int64(size)})
	_, _ = w.Write(make([]byte, size))
	_ = w.Close()
	img, err := e.ImageStore().Import(&b, image.ImportOptions{Ref: name})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// What is said to be taken is what du says, and what can be given back is what is given back.
func TestUsageIsWhatDuSays(t *testing.T) {
	e := open(t)
	create(t, e, engine.DefaultImage)
	if _, err := e.CreateVolume("vol", "", nil, nil); err != nil {
		t.Fatal(err)
	}
	add(t, e, "unused", 3_000_000)
	du := func(names ...string) (total int64) {
		t.Helper()
		for _, name := range names {
			out, err := exec.Command("du", "-s", "--block-size=1", filepath.Join(e.Root(), name)).Output()
			if err != nil {
				t.Fatalf("du %s: %v", name, err)
			}
			n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
		return total
	}
	r, err := Measure(e)
	if err != nil {
		t.Fatal(err)
	}
	images := []string{"blobs", "layers", "images", "refs", "ingest"}
	for i, want := range []int64{du(images...), du("containers", "names"), du("volumes")} {
		if k := r.Kinds[i]; k.Size != want || k.Active > k.Total || k.Total == 0 {
			t.Errorf("%+v, du says %d", k, want)
		}
	}
	if i := r.Images[0]; i.Disk < 6_000_000 || i.Shared != 0 || i.Repository+":"+i.Tag != "unused:latest" {
		t.Errorf("%+v", i)
	}
	if _, err := e.PruneImages(engine.PruneOptions{Filters: engine.Filters{"all": {"true"}}}); err != nil {
		t.Fatal(err)
	}
	after, err := Measure(e)
	if err != nil {
		t.Fatal(err)
	}
	freed := r.Kinds[0].Size - after.Kinds[0].Size // folders and records beside what is measured
	if said := r.Kinds[0].Reclaimable; said < 6_000_000 || freed < said || freed > said+100_000 || after.Kinds[0].Reclaimable != 0 {
		t.Errorf("%d can be given back, %d was, %d is left", said, freed, after.Kinds[0].Reclaimable)
	}
}

func TestBudgetIsKept(t *testing.T) {
	e := open(t)
	pulled := func(name string) {
		t.Helper()
		img := add(t, e, name, 500_000)
		r, err := reference.Parse(name)
		if err == nil {
			err = e.ImageStore().NamePulled(r, img.Manifest, img)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pulled("r.io/used")
	create(t, e, "r.io/used")
	add(t, e, "made", 500_000)
	for _, name := range []string{"r.io/a", "r.io/b", "r.io/c"} {
		pulled(name)
	}
	if img, err := e.ImageStore().Resolve("r.io/a"); err == nil {
		e.ImageStore().Touch(img)
	}
	pulled("r.io/last")
	keep := func(bytes int64, removed string, over bool) {
		t.Helper()
		if err := SetBudget(e, bytes); err != nil {
			t.Fatal(err)
		}
		k, err := Keep(e)
		if err != nil || strings.Join(k.Removed, " ") != removed || k.Over() != over {
			t.Errorf("with a budget of %d: %+v, %v", bytes, k, err)
		}
	}
	one := Images(e) / 6
	keep(0, "", false)
	keep(6*one+10, "", false)
	keep(4*one+10, "r.io/b:latest r.io/c:latest", false)
	keep(1, "r.io/a:latest", true) // one is used, one is nowhere else, one was just added
}
