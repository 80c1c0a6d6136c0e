//go:build linux

package engine

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/berth-containers/berth/internal/errs"
)

// Conditions of [Container.WaitFor], Docker's.
const (
	NotRunning = "not-running" // at once, if it does not run
	NextExit   = "next-exit"   // also of a container that runs later, and of one that is started again
	Removed    = "removed"
)

// WaitFor waits until something is so, and returns the exit that was the last then.
func (c *Container) WaitFor(ctx context.Context, condition string) (*Exit, error) {
	switch condition {
	case "", NotRunning:
		return c.Wait()
	case NextExit:
		return c.await(ctx, "die")
	case Removed:
		return c.await(ctx, "destroy")
	}
	return nil, errs.Text(errs.Invalid, "invalid condition: "+strconv.Quote(condition)+": want not-running, next-exit or removed")
}

// errCame ends the reading of events.
var errCame = errors.New("it came")

// await reads the journal until an event of the container comes.
func (c *Container) await(ctx context.Context, action string) (*Exit, error) {
	exit := c.Last()
	if exit == nil {
		exit = &Exit{}
	}
	o := EventOptions{Filters: Filters{"container": {c.ID}}}
	o.Since = time.Now()
	if action == "destroy" { // its end may be past, and of one that goes with it nothing else tells
		o.Since = c.Created
	}
	err := c.e.Events(ctx, o, func(ev Event) error {
		if ev.Action == "die" {
			code, _ := strconv.Atoi(ev.Actor.Attributes["exitCode"])
			exit = &Exit{Code: code}
		}
		if ev.Action == action {
			return errCame
		}
		return nil
	})
	if errors.Is(err, errCame) {
		err = nil
	}
	return exit, err
}
