//go:build linux

package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how much a registry may get wrong before a transfer ends. What passes (a connection that breaks or stands
// still, 429, 5xx) is tried anew, after a pause that doubles each time, or after what the registry asks for.
type patience struct {
	tries   int           // of one request; of a blob, without enough bytes in between
	pause   time.Duration // before the second try
	longest time.Duration // a registry that asks for more is not waited for
	stall   time.Duration // without an answer, or a byte of it
}

var usual = patience{tries: 5, pause: 250 * time.Millisecond, longest: 2 * time.Minute, stall: 30 * time.Second}

// errStall is a connection on which nothing comes.
var errStall = errors.New("nothing came for half a minute")

// passing reports whether an error may be gone at the next try. What says that nobody is there, or not the right one
// (connection refused, no such host, a certificate), stays.
func passing(err error) bool {
	var timeout net.Error
	return errors.Is(err, errStall) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout() ||
		err != nil && (strings.Contains(err.Error(), "stream error: stream ID") || strings.Contains(err.Error(), "server sent GOAWAY")) // HTTP/2's, whose types net/http keeps for itself
}

// busy reports whether a status means that the next try may go better.
func busy(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// wait pauses before try n, counted from 1 for the second one. asked is what the registry wants.
func (p patience) wait(ctx context.Context, n int, asked time.Duration) error {
	pause := p.pause << (n - 1)
	pause += rand.N(pause/4 + 1) // many clients that were cut off at once do not come back at once
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(max(pause, asked)):
		return nil
	}
}

// retryAfter reads the header of that name (RFC 9110, 10.2.3): seconds, or a date.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// patient is a transport that tries again, and gives up on a connection that stands still.
type patient struct {
	patience
	next http.RoundTripper
}

// RoundTrip is http.RoundTripper's.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	for n := 1; ; n++ {
		resp, err := p.once(req)
		asked := time.Duration(0)
		if err == nil {
			asked = retryAfter(resp.Header)
		}
		again := n < p.tries && (passing(err) || err == nil && busy(resp.StatusCode) && asked <= p.longest)
		if !again || req.Context().Err() != nil || req.Body != nil && req.GetBody == nil || req.Method == http.MethodPatch { // which adds to what is there
			return resp, err
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		if err := p.wait(req.Context(), n, asked); err != nil {
			return nil, err
		}
		if req.GetBody != nil {
			req = req.Clone(req.Context())
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// once sends a request and watches over its answer. One that sends something itself is not watched: its answer comes
// when all of that is there.
func (p *patient) once(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		return p.next.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watched{ctx: ctx, cancel: cancel, stall: p.stall, timer: time.AfterFunc(p.stall, func() { cancel(errStall) })}
	resp, err := p.next.RoundTrip(req.WithContext(ctx))
	w.timer.Stop()
	if err != nil {
		err = w.cause(err)
		cancel(nil)
		return nil, err
	}
	w.body = resp.Body
	resp.Body = w
	return resp, nil
}

// watched is the body of an answer. Time runs only while somebody waits for a byte.
type watched struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	timer  *time.Timer
	body   io.ReadCloser
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop()
	if err != nil && err != io.EOF {
		err = w.cause(err)
	}
	return n, err
}

// cause puts what ended the request in place of what that looked like.
func (w *watched) cause(err error) error {
	if c := context.Cause(w.ctx); c != nil {
		return c
	}
	return err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.body.Close()
}
