//go:build linux

package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/errs"
)

// origin is a registry in memory.
type origin struct {
	*httptest.Server
	t *testing.T
}

func newOrigin(t *testing.T, around func(http.Handler) http.Handler) *origin {
	o := &origin{t: t}
	o.Server = httptest.NewServer(around(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	t.Cleanup(o.Close)
	return o
}

func plain(h http.Handler) http.Handler { return h }

func (o *origin) name(repository string) string {
	return strings.TrimPrefix(o.URL, "http://") + "/" + repository
}

func (o *origin) put(path, contentType string, body []byte) {
	o.t.Helper()
	method, url := http.MethodPut, o.URL+path
	if strings.HasSuffix(path, "/uploads/") {
		method, url = http.MethodPost, url+"?digest="+string(digest.FromBytes(body))
	}
	req, _ := http.NewRequest(method, url, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		o.t.Fatalf("%s: %v %v", path, resp, err)
	}
	resp.Body.Close()
}

// blob stores a blob and describes it.
func (o *origin) blob(repository, mediaType string, body []byte) v1.Descriptor {
	o.t.Helper()
	o.put("/v2/"+repository+"/blobs/uploads/", "application/octet-stream", body)
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
}

// manifest stores an image of layers, after edit has changed its manifest.
func (o *origin) manifest(repository, tag string, layers []v1.Descriptor, diffIDs []digest.Digest, edit func(*v1.Manifest)) {
	o.t.Helper()
	config, _ := json.Marshal(v1.Image{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs}})
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: layers,
		Config: o.blob(repository, v1.MediaTypeImageConfig, config)}
	edit(&m)
	b, _ := json.Marshal(m)
	o.put("/v2/"+repository+"/manifests/"+tag, m.MediaType, b)
}

func unchanged(*v1.Manifest) {}

// layerOf makes a layer with one file of noise.
func layerOf(rnd *rand.Rand, size int, compression string) (blob []byte, mediaType string, diffID digest.Digest) {
	noise := make([]byte, size)
	_, _ = rnd.Read(noise)
	var archive, packed bytes.Buffer
	tw := tar.NewWriter(&archive)
	_ = tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("noise-%x", noise[:4]), Size: int64(size), Mode: 0o644})
	_, _ = tw.Write(noise)
	_ = tw.Close()
	diffID = digest.FromBytes(archive.Bytes())
	switch compression {
	case "gzip":
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(archive.Bytes())
		_ = z.Close()
		return packed.Bytes(), v1.MediaTypeImageLayerGzip, diffID
	case "zstd":
		z, _ := zstd.NewWriter(&packed)
		_, _ = z.Write(archive.Bytes())
		_ = z.Close()
		return packed.Bytes(), v1.MediaTypeImageLayerZstd, diffID
	}
	return archive.Bytes(), v1.MediaTypeImageLayer, diffID
}

// sampleImage stores an image of three layers, each compressed in another way, and returns its name.
func sampleImage(o *origin, seed int64, size int) string {
	rnd := rand.New(rand.NewSource(seed))
	var layers []v1.Descriptor
	var diffIDs []digest.Digest
	for _, compression := range []string{"gzip", "zstd", "none"} {
		body, mediaType, diffID := layerOf(rnd, size/2+rnd.Intn(size), compression)
		layers, diffIDs = append(layers, o.blob("team/app", mediaType, body)), append(diffIDs, diffID)
	}
	tag := fmt.Sprint("v", seed)
	o.manifest("team/app", tag, layers, diffIDs, unchanged)
	return o.name("team/app:" + tag)
}

// checkStore looks whether what is in a store is what its names say, and that nothing is half there.
func checkStore(t *testing.T, root string) {
	t.Helper()
	blobs, _ := filepath.Glob(filepath.Join(root, "blobs/sha256/*"))
	for _, file := range blobs {
		b, err := os.ReadFile(file)
		if err != nil || digest.FromBytes(b).Encoded() != filepath.Base(file) {
			t.Errorf("blob %s has another content: %v", file, err)
		}
	}
	s := image.Open(root)
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range list {
		for _, l := range img.Layers {
			if have, ok := s.LayerOf(l.DiffID); !ok || have.Blob != l.Blob {
				t.Errorf("image %s is listed, its layer %s is not there", img.ID, l.DiffID)
			}
		}
	}
	staged, _ := filepath.Glob(filepath.Join(root, "layers/.new-*"))
	if len(staged) > 0 {
		t.Errorf("half unpacked: %v", staged)
	}
}

// left lists what unfinished blobs there are.
func left(root string) []string {
	files, _ := filepath.Glob(filepath.Join(root, "ingest/*"))
	return files
}

// hasten makes pauses short while a test runs.
func hasten(t *testing.T) {
	before := usual
	usual = patience{tries: 5, pause: time.Millisecond, longest: 10 * time.Second, stall: 10 * time.Second}
	t.Cleanup(func() { usual = before })
}

// faults is a proxy that does harm to some of the answers that pass it.
type faults struct {
	sync.Mutex
	rnd   *rand.Rand
	share float64 // of the answers that are harmed
	next  http.Handler
}

func (f *faults) roll() (kind int, at float64) {
	f.Lock()
	defer f.Unlock()
	if f.rnd.Float64() >= f.share {
		return 0, 0
	}
	return 1 + f.rnd.Intn(8), f.rnd.Float64()
}

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, at := f.roll()
	recorded := httptest.NewRecorder()
	if r.Method == http.MethodGet && kind == 6 { // ranges are ignored
		r.Header.Del("Range")
	}
	f.next.ServeHTTP(recorded, r)
	body := recorded.Body.Bytes()
	cut := int(at * float64(len(body)))
	if r.Method != http.MethodGet || r.URL.Path == "/v2/" && kind > 3 {
		kind = 0
	}
	header := recorded.Header().Clone()
	switch kind {
	case 1:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case 2:
		w.WriteHeader([]int{500, 502, 503, 504}[int(at*4)])
		return
	case 3: // nothing at all
		panic(http.ErrAbortHandler)
	case 4: // a bit is wrong
		body = bytes.Clone(body)
		if len(body) > 0 {
			body[cut] ^= 1 << (cut % 8)
		}
	case 5: // too short or too long, and a length that says so
		if at < 0.5 {
			body = body[:cut]
		} else {
			body = append(bytes.Clone(body), "more"...)
		}
		header.Set("Content-Length", strconv.Itoa(len(body)))
	case 7:
		http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
		return
	}
	for key, values := range header {
		w.Header()[key] = values
	}
	w.WriteHeader(recorded.Code)
	if kind == 8 { // cut off
		_, _ = w.Write(body[:cut])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// Pulls through a proxy that harms one answer of four succeed or fail, and in either case the store is sound; those that
// fail leave no image. What such a store then pulls without harm is whole.
func TestPullsThroughFaults(t *testing.T) {
	hasten(t)
	const pulls = 200
	seed := time.Now().UnixNano() % 1e6
	t.Logf("seed %d", seed)
	f := &faults{rnd: rand.New(rand.NewSource(seed)), share: 0.25}
	o := newOrigin(t, func(h http.Handler) http.Handler { f.next = h; return plain(h) })
	proxy := httptest.NewServer(f)
	proxy.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer proxy.Close()
	var names []string
	for seed := range 8 {
		names = append(names, sampleImage(o, int64(seed), 4<<10))
	}
	var failed atomic.Int64
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			root := t.TempDir()
			for i := worker; i < pulls; i += 4 {
				direct := names[i/4%len(names)]
				name := strings.Replace(direct, strings.TrimPrefix(o.URL, "http://"), strings.TrimPrefix(proxy.URL, "http://"), 1)
				s := image.Open(root)
				_, _, err := Pull(context.Background(), s, name, Options{})
				if _, there := s.Resolve(name); (err == nil) != (there == nil) {
					t.Errorf("pull: %v, then its name: %v", err, there)
				}
				if err != nil {
					failed.Add(1)
				}
				checkStore(t, root)
				if i/4%len(names) == len(names)-1 { // from the begin again, with what is unfinished
					if _, _, err := Pull(context.Background(), s, direct, Options{}); err != nil {
						t.Errorf("pull without harm: %v", err)
					}
					for _, dir := range []string{"blobs", "layers", "images", "refs"} {
						_ = os.RemoveAll(filepath.Join(root, dir))
					}
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d pulls failed", failed.Load(), pulls)
	if failed.Load() == 0 || failed.Load() > pulls*3/4 {
		t.Error("so few or many tell nothing of either way")
	}
}

// halting sends so many bytes of a layer, and then no more.
type halting struct {
	next     http.Handler
	budget   atomic.Int64
	ranges   chan string   // what was asked for
	reached  chan struct{} // the budget is spent
	released chan struct{}
}

func (h *halting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	recorded := httptest.NewRecorder()
	h.next.ServeHTTP(recorded, r)
	body := recorded.Body.Bytes()
	for key, values := range recorded.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(recorded.Code)
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || len(body) < 1<<16 {
		_, _ = w.Write(body)
		return
	}
	h.ranges <- r.Header.Get("Range")
	n := min(h.budget.Load(), int64(len(body)))
	_, _ = w.Write(body[:n])
	if n < int64(len(body)) {
		_ = http.NewResponseController(w).Flush()
		h.reached <- struct{}{}
		select {
		case <-h.released:
		case <-r.Context().Done():
		}
	}
}

// A pull that is cut off, by a registry that dies or by kill -9, goes on where it stopped.
func TestPullGoesOn(t *testing.T) {
	if root := os.Getenv("BERTH_TEST_PULL"); root != "" {
		_, _, err := Pull(context.Background(), image.Open(root), os.Getenv("BERTH_TEST_NAME"), Options{})
		fmt.Println(err)
		return
	}
	hasten(t)
	const size = 4 << 20
	g := &halting{ranges: make(chan string, 100), reached: make(chan struct{}, 100), released: make(chan struct{})}
	g.budget.Store(3 << 20)
	o := newOrigin(t, func(next http.Handler) http.Handler { g.next = next; return g })
	body, mediaType, diffID := layerOf(rand.New(rand.NewSource(1)), size, "none")
	d := o.blob("big", mediaType, body)
	o.manifest("big", "1", []v1.Descriptor{d, d}, []digest.Digest{diffID, diffID}, unchanged) // twice, fetched once
	root := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestPullGoesOn$")
	child.Env = append(os.Environ(), "BERTH_TEST_PULL="+root, "BERTH_TEST_NAME="+o.name("big:1"))
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	<-g.reached
	part := filepath.Join(root, "ingest", d.Digest.Encoded())
	for { // until what was sent is on disk
		if fi, err := os.Stat(part); err == nil && fi.Size() == g.budget.Load() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	close(g.released)
	staged, _ := filepath.Glob(filepath.Join(root, "layers/.new-*")) // which a collection of garbage takes away
	for _, dir := range staged {
		_ = os.RemoveAll(dir)
	}
	checkStore(t, root)
	// Two at once: one fetches the rest, the other waits for it.
	g.budget.Store(size * 2)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			img, _, err := Pull(context.Background(), image.Open(root), o.name("big:1"), Options{})
			if err != nil || len(img.Layers) != 2 {
				t.Errorf("pull: %v", err)
			}
		})
	}
	wg.Wait()
	checkStore(t, root)
	close(g.ranges)
	var asked []string
	for r := range g.ranges {
		asked = append(asked, r)
	}
	want := []string{"", fmt.Sprintf("bytes=%d-%d", 3<<20, d.Size-1)}
	if strings.Join(asked, ",") != strings.Join(want, ",") {
		t.Errorf("the layer was asked for by %q, want %q", asked, want)
	}
	if files := left(root); len(files) > 0 {
		t.Errorf("left: %v", files)
	}
}

// A damaged part of a killed pull is noticed, and fetched again.
func TestDamagedPartIsReplaced(t *testing.T) {
	hasten(t)
	for _, damage := range []func(body []byte) []byte{
		func(body []byte) []byte { return make([]byte, len(body)/2) },
		func(body []byte) []byte { return append(bytes.Clone(body), 1) },
		func(body []byte) []byte { b := bytes.Clone(body); b[len(b)-1] ^= 1; return b },
		bytes.Clone,
	} {
		o := newOrigin(t, plain)
		body, mediaType, diffID := layerOf(rand.New(rand.NewSource(1)), 9000, "gzip")
		d := o.blob("app", mediaType, body)
		o.manifest("app", "1", []v1.Descriptor{d}, []digest.Digest{diffID}, unchanged)
		root := t.TempDir()
		_ = os.Mkdir(filepath.Join(root, "ingest"), 0o700)
		if err := os.WriteFile(filepath.Join(root, "ingest", d.Digest.Encoded()), damage(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Pull(context.Background(), image.Open(root), o.name("app:1"), Options{}); err != nil {
			t.Error(err)
		}
		checkStore(t, root)
	}
}

// A registry that lies is refused, at once, and nothing is left of what it said.
func TestLiesAreRefused(t *testing.T) {
	hasten(t)
	body, gz, diffID := layerOf(rand.New(rand.NewSource(1)), 9000, "gzip")
	other, _, _ := layerOf(rand.New(rand.NewSource(2)), 9000, "gzip")
	id := digest.FromBytes(body)
	lying := func(answer func(w http.ResponseWriter)) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, string(id)) {
					answer(w)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	endless := func(w http.ResponseWriter) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 1<<16))
		}
	}
	cases := map[string]struct {
		around func(http.Handler) http.Handler
		edit   func(*v1.Manifest)
		text   string
	}{
		"other content": {lying(func(w http.ResponseWriter) { _, _ = w.Write(append(other, make([]byte, 99999)...)[:len(body)]) }), unchanged, ""},
		"short":         {lying(func(w http.ResponseWriter) { _, _ = w.Write(body[:100]) }), unchanged, "100 bytes"},
		"short, without a length": {lying(func(w http.ResponseWriter) {
			_, _ = w.Write(body[:100])
			_ = http.NewResponseController(w).Flush()
		}), unchanged, "ends it after 100"},
		"endless":               {lying(endless), unchanged, ""},
		"a part":                {lying(func(w http.ResponseWriter) { w.WriteHeader(206); _, _ = w.Write(body) }), unchanged, "a part that nobody asked for"},
		"wrong size":            {plain, func(m *v1.Manifest) { m.Layers[0].Size++ }, "the manifest says"},
		"no size":               {plain, func(m *v1.Manifest) { m.Layers[0].Size = 0 }, ""},
		"negative size":         {plain, func(m *v1.Manifest) { m.Layers[0].Size = -1 }, ""},
		"digest that is a path": {plain, func(m *v1.Manifest) { m.Layers[0].Digest = "sha256:../../../../etc/passwd" }, "invalid digest"},
		"no layers":             {plain, func(m *v1.Manifest) { m.Layers = nil }, "0 layers, and the configuration has 1"},
		"foreign": {plain, func(m *v1.Manifest) {
			m.Layers[0].MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
		}, "foreign layer"},
		"no image":              {plain, func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }, "helm"},
		"wrong configuration":   {plain, func(m *v1.Manifest) { m.Config.Size++ }, "its configuration has the digest"},
		"redirects without end": {lying(func(w http.ResponseWriter) { w.Header().Set("Location", "?x"); w.WriteHeader(307) }), unchanged, "10 redirects"},
		"no such layer":         {lying(func(w http.ResponseWriter) { w.WriteHeader(404) }), unchanged, "404"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, c.around)
			o.manifest("app", "1", []v1.Descriptor{o.blob("app", gz, body)}, []digest.Digest{diffID}, c.edit)
			root := t.TempDir()
			_, _, err := Pull(context.Background(), image.Open(root), o.name("app:1"), Options{})
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q in it", err, c.text)
			}
			checkStore(t, root)
			for _, pattern := range []string{"ingest/*", "blobs/sha256/*", "layers/*", "images/*", "refs/*"} {
				if files, _ := filepath.Glob(filepath.Join(root, pattern)); len(files) > 0 {
					t.Errorf("left: %v", files)
				}
			}
		})
	}
}

// Documents that are lists and images at once, that are another than was asked for, or none at all.
func TestManifestsAreChecked(t *testing.T) {
	for name, c := range map[string]struct{ body, kind, text string }{
		"both":        {`{"mediaType":"` + v1.MediaTypeImageManifest + `","layers":[],"manifests":[]}`, v1.MediaTypeImageManifest, "ambiguous"},
		"both, index": {`{"mediaType":"` + v1.MediaTypeImageIndex + `","layers":[],"manifests":[]}`, v1.MediaTypeImageIndex, "ambiguous"},
		"other type":  {`{"mediaType":"` + v1.MediaTypeImageManifest + `"}`, v1.MediaTypeImageIndex, "the registry says"},
		"unknown":     {`{"mediaType":"text/plain"}`, "text/plain", "text/plain"},
		"schema 1":    {`{"schemaVersion":1}`, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"},
		"html":        {`<html>`, "text/html", "invalid character"},
	} {
		if _, err := parseDocument([]byte(c.body), c.kind); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.text)
		}
	}
	for name, c := range map[string]struct{ body, kind, want string }{
		"by its header": {`{"config":{}}`, dockerManifest, dockerManifest},
		"by its looks":  {`{"manifests":[]}`, "", v1.MediaTypeImageIndex},
	} {
		if d, err := parseDocument([]byte(c.body), c.kind); err != nil || d.kind != c.want {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:1"},"layers":null}`), v1.MediaTypeImageManifest)
	f.Add([]byte(`{"manifests":[{"platform":null},{"platform":{"os":"linux"}}]}`), dockerList)
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		d, err := parseDocument(body, kind)
		if err != nil {
			return
		}
		if d.isIndex() && (d.Layers != nil || d.Config.Digest != "") || !d.isIndex() && d.Manifests != nil {
			t.Fatal("ambiguous")
		}
		_, _ = choose(d.Manifests, v1.Platform{OS: "linux", Architecture: "amd64"})
	})
}

// A registry that stands still, asks for patience, or is gone.
func TestPatience(t *testing.T) {
	hasten(t)
	usual.stall = 500 * time.Millisecond
	var n atomic.Int64
	o := newOrigin(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path == "/v2/" {
				next.ServeHTTP(w, r)
				return
			}
			switch n.Add(1) {
			case 1:
				<-r.Context().Done() // nothing comes
				return
			case 2:
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	body, mediaType, diffID := layerOf(rand.New(rand.NewSource(1)), 100, "none")
	o.manifest("app", "1", []v1.Descriptor{o.blob("app", mediaType, body)}, []digest.Digest{diffID}, unchanged)
	begin := time.Now()
	if _, _, err := Pull(context.Background(), image.Open(t.TempDir()), o.name("app:1"), Options{}); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < time.Second {
		t.Errorf("asked to wait for a second, it took %v", took)
	}
	o.Close()
	_, _, err := Pull(context.Background(), image.Open(t.TempDir()), o.name("app:1"), Options{})
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a registry that is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Pull(ctx, image.Open(t.TempDir()), o.name("app:1"), Options{}); !errs.Is(err, errs.Canceled) {
		t.Errorf("an interrupted pull: %v", err)
	}
	for text, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "-1": 0, "x": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0} {
		if got := retryAfter(http.Header{"Retry-After": {text}}); got != want {
			t.Errorf("Retry-After %q: %v, want %v", text, got, want)
		}
	}
}
