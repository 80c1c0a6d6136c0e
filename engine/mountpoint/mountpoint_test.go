//go:build linux

package mountpoint

import (
	"path"
	"strings"
	"testing"

	docker "github.com/moby/moby/api/types/mount"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/namespace"
)

func TestParseBind(t *testing.T) {
	for spec, want := range map[string]string{
		"/a:/b": "bind /a /b true", "/a:/b:ro": "bind /a /b false", "v:/b": "volume v /b true", "v:/b:ro,nocopy": "volume v /b false",
		"/b": "volume  /b true", "/b:ro": "volume  /b false", ":/b": "", "/a:": "", "": "", "/a:/b:": "", "/a:/b:ro,rw": "", "/a:/b:shared,slave": "", "/a:/b:nocopy": "", "v:/b:shared": "", "a:b": "", "/a:/": "", "/a:/b:xx": "", "a:b:c:d": "", "rel": "",
	} {
		m, err := ParseBind(spec)
		got := ""
		if err == nil {
			got = strings.Join([]string{string(m.Type), m.Name + m.Source, m.Destination, map[bool]string{true: "true", false: "false"}[m.RW]}, " ")
		}
		if got != want {
			t.Errorf("%s: %q, %v; want %q", spec, got, err, want)
		}
	}
}

func TestParseMount(t *testing.T) {
	for name, in := range map[string]docker.Mount{
		"no target": {Type: docker.TypeBind, Source: "/x"}, "relative": {Type: docker.TypeBind, Source: "x", Target: "/t"}, "type": {Type: "x", Target: "/t"},
		"root": {Type: docker.TypeBind, Source: "/x", Target: "/"}, "tmpfs with a source": {Type: docker.TypeTmpfs, Source: "/x", Target: "/t"},
		"propagation": {Type: docker.TypeBind, Source: "/x", Target: "/t", BindOptions: &docker.BindOptions{Propagation: "sideways"}},
		"overlay":     {Type: TypeOverlay, Source: "x", Target: "/t"},
	} {
		if m, err := Parse(&in, Owner{}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	m, err := Parse(&docker.Mount{Type: docker.TypeTmpfs, Target: "/t", TmpfsOptions: &docker.TmpfsOptions{SizeBytes: 4096, Mode: 0o1770}}, Owner{})
	if got := strings.Join(m.Options, ","); err != nil || got != "noexec,nosuid,nodev,size=4096,mode=1770" {
		t.Errorf("%s, %v", got, err)
	}
	m, err = Parse(&docker.Mount{Type: docker.TypeBind, Source: "/x", Target: "/t", ReadOnly: true, BindOptions: &docker.BindOptions{ReadOnlyNonRecursive: true, NonRecursive: true}}, Owner{IDMap: "auto", Own: true})
	if err != nil || m.RW || !m.TopReadonly || m.IDMap != "auto" || !m.Own || strings.Join(m.Options, ",") != "bind" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestParseFlag(t *testing.T) {
	for _, text := range []string{"", "dst", "type=bind", "type=bind,src=/a,dst=/b,readonly=yes", "dst=/b,foo=1", "dst=/b, ro", "dst=", "dst=/b,tmpfs-size=x",
		"type=bind,src=/a,dst=/b,volume-nocopy", "dst=/b,bind-propagation=shared", "type=tmpfs,dst=/b,image-subpath=x", "type=bind,src=/a,dst=/b,tmpfs-mode=1777",
		"type=bind,src=/a,dst=/b,bind-recursive=x", "type=bind,src=/a,dst=/b,bind-recursive=writable", "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly", "type=tmpfs,dst=/b,tmpfs-mode=9"} {
		if m, _, err := ParseFlag(text, ""); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %+v, %v", text, m, err)
		}
	}
	m, owner, err := ParseFlag("type=BIND,source=/a,target=/b,ro=1,bind-recursive=readonly,bind-propagation=rprivate,idmap=me,chown", "owner=1/2")
	if err != nil || m.Type != docker.TypeBind || m.Source != "/a" || m.Target != "/b" || !m.ReadOnly || !m.BindOptions.ReadOnlyForceRecursive || owner != (Owner{"owner=1/2", true}) {
		t.Errorf("%+v, %+v, %v", m, owner, err)
	}
	m, _, err = ParseFlag(`dst=/b,ro=false,volume-driver=local,volume-opt=type=tmpfs,"volume-opt=o=size=1m,mode=700",volume-label=a=b,volume-subpath=x`, "")
	if v := m.VolumeOptions; err != nil || m.ReadOnly || m.Type != docker.TypeVolume || v.DriverConfig.Options["o"] != "size=1m,mode=700" || v.Labels["a"] != "b" || v.Subpath != "x" {
		t.Errorf("%+v, %+v, %v", m, m.VolumeOptions, err)
	}
}

// Whatever is written, the answer is a mount with an absolute target below the root, or an error.
func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "v:/b", "/a:/b:idmap=uids=0-1-2;gids=3-4,U", "a:b:c:d", ":", "/x", "/a:/b:idmap=owner=1/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseBind(s)
		if err != nil {
			return
		}
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) == "/" || m.Type == docker.TypeBind && !path.IsAbs(m.Source) {
			t.Errorf("%q: %+v", s, m)
		}
		if o, err := m.IDMap.Parse(); err == nil && o.UIDs != nil && (namespace.CheckMaps("user", o.UIDs) != nil || namespace.CheckMaps("group", o.GIDs) != nil) {
			t.Errorf("%q: %+v", s, o)
		}
	})
}
