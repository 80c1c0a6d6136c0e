//go:build linux

package engine

import (
	"encoding/json"
	"path/filepath"
	"testing"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/monitor"
)

// What the engine thinks about between two steps of a start.
func BenchmarkTranslation(b *testing.B) {
	dir := b.TempDir()
	e, err := Open(Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		b.Skip(err)
	}
	c, err := e.Create(Config{Config: docker.Config{Image: DefaultImage, Cmd: []string{"sh"}}, HostConfig: docker.HostConfig{NetworkMode: "none"}})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.makeRunDir(); err != nil {
		b.Fatal(err)
	}
	s, err := c.spec()
	if err != nil {
		b.Fatal(err)
	}
	root, err := c.overlay()
	if err != nil {
		b.Fatal(err)
	}
	cfg, err := c.monitorConfig(s, root, nil)
	if err != nil {
		b.Fatal(err)
	}
	message, err := json.Marshal(cfg)
	if err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"spec":    func() error { _, err := c.spec(); return err },
		"plan":    func() error { _, err := container.NewPlan(s, dir); return err },
		"bundle":  func() error { _, err := json.MarshalIndent(s, "", "  "); return err },
		"encode":  func() error { _, err := json.Marshal(cfg); return err },
		"decode":  func() error { return json.Unmarshal(message, &monitor.Config{}) },
		"network": func() error { return c.writeNetworkFiles(nil) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Logf("the monitor is told %d bytes", len(message))
}
