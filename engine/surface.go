//go:build linux

package engine

import (
	"context"
	"io"
	"iter"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

var errSoon = errs.Text(errs.Unsupported, "being written")

// Engine is one data root and one state root. Several processes may have the same one open.
type Engine struct{}

// Open prepares the engine of two folders.
func Open(o Options) (*Engine, error) { return nil, errSoon }
func (e *Engine) Close() error        { return nil }

// Create makes a container that can be started.
func (e *Engine) Create(cfg *Config) (*Container, error) { return nil, errSoon }

// Run is Create, Start with streams, and a wait for the end. With nil streams it returns as soon as the process runs.
func (e *Engine) Run(ctx context.Context, cfg *Config, s *Streams) (*Exit, error) {
	return nil, errSoon
}

// Lookup finds a container by full id, exact name (with or without the leading slash), or unique prefix of an id.
func (e *Engine) Lookup(ref string) (*Container, error) { return nil, errSoon }

func (e *Engine) List(o ListOptions) ([]docker.Summary, error)               { return nil, errSoon }
func (e *Engine) Import(r io.Reader, o ImportOptions) (id string, err error) { return "", errSoon }
func (e *Engine) Images(f Filters) ([]image.Summary, error)                  { return nil, errSoon }
func (e *Engine) Info() (*system.Info, error)                                { return nil, errSoon }
func (e *Engine) Version() system.VersionResponse                            { return system.VersionResponse{} }
func (e *Engine) Doctor() ([]Finding, error)                                 { return nil, errSoon }
func (e *Engine) Leaks() ([]Leak, error)                                     { return nil, errSoon }
func (e *Engine) Events(ctx context.Context, o EventOptions) iter.Seq2[events.Message, error] {
	return nil
}
func (e *Engine) Prune(f Filters, dryRun bool) (*docker.PruneReport, error) { return nil, errSoon }

// Finding is one thing that Doctor looked at.
type Finding struct {
	Name string // what was looked at: "overlay on overlay", "cgroup v1 cpuset"
	OK   bool
	Has  string // what the host has
	Lost string // what does not work because of it; "" when OK
	Fix  string // a command or a sentence
}

// Leak is something left behind by an owner that is gone.
type Leak struct{ Kind, Path, Owner string }

// Container is one container of an engine.
type Container struct {
	ID      string // 64 hexadecimal digits
	Name    string // without a slash
	Created time.Time
	Config  *Config
}

// Start starts it. With streams they are attached from the first byte on and the session is not nil.
func (c *Container) Start(o StartOptions) (*Session, error) { return nil, errSoon }

// Attach connects streams with a running container.
func (c *Container) Attach(s Streams) (*Session, error) { return nil, errSoon }

// Session is the connection of a caller's streams with a container.
type Session struct{}

// Wait returns when the container has ended and all its output was written, with how it ended; or with detached set
// after the detach keys.
func (s *Session) Wait() (exit *Exit, detached bool, err error) { return nil, false, errSoon }

// Close ends the connection, not the container.
func (s *Session) Close() error { return nil }

// Wait waits for a condition: "" or not-running, next-exit, removed.
func (c *Container) Wait(ctx context.Context, condition string) (*Exit, error) { return nil, errSoon }

func (c *Container) Inspect(size bool) (*docker.InspectResponse, error) { return nil, errSoon }
func (c *Container) Remove(o RemoveOptions) error                       { return errSoon }
func (c *Container) Trace() ([]trace.Record, error)                     { return nil, errSoon }
func (c *Container) Stop(o StopOptions) error                           { return errSoon }
func (c *Container) Restart(o StopOptions) error                        { return errSoon }
func (c *Container) Kill(signal string) error                           { return errSoon }
func (c *Container) Pause() error                                       { return errSoon }
func (c *Container) Unpause() error                                     { return errSoon }
func (c *Container) Rename(name string) error                           { return errSoon }
func (c *Container) Logs(ctx context.Context, o LogOptions, stdout, stderr io.Writer) error {
	return errSoon
}

// Exec runs a further process. With nil streams, or Detach, it returns once the process runs and exit is 0.
func (c *Container) Exec(ctx context.Context, x ExecConfig, s *Streams) (code int, err error) {
	return 0, errSoon
}
func (c *Container) Top(psArgs []string) (*docker.TopResponse, error) { return nil, errSoon }
func (c *Container) Stats() (*docker.StatsResponse, error)            { return nil, errSoon }
func (c *Container) Diff() ([]docker.FilesystemChange, error)         { return nil, errSoon }
func (c *Container) Commit(o CommitOptions) (id string, err error)    { return "", errSoon }
func (c *Container) StatPath(path string) (*docker.PathStat, error)   { return nil, errSoon }
func (c *Container) CopyFrom(path string, o CopyOptions) (io.ReadCloser, *docker.PathStat, error) {
	return nil, nil, errSoon
}
func (c *Container) CopyTo(path string, tar io.Reader, o CopyOptions) error      { return errSoon }
func (c *Container) Export(w io.Writer) error                                    { return errSoon }
func (c *Container) Update(u docker.UpdateConfig) (warnings []string, err error) { return nil, errSoon }
func (c *Container) Why() (*Verdict, error)                                      { return nil, errSoon }

// Verdict says why a container ended.
type Verdict struct {
	Short    string   // one sentence
	Certain  string   // certain, likely, unknown
	Evidence []string // what was seen, one sentence each
	Fix      string   // a command, or ""
}
