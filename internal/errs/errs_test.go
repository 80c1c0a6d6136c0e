package errs

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestKindSurvivesWrapping(t *testing.T) {
	base := New(NotFound, "find container x", nil).WithHint("see `berth ps -a`")
	err := fmt.Errorf("start: %w", Wrap("open state", base))
	if KindOf(err) != NotFound || ExitCode(err) != 125 || HTTPStatus(err) != 404 {
		t.Fatalf("kind %v, exit %d, http %d", KindOf(err), ExitCode(err), HTTPStatus(err))
	}
	if got, want := err.Error(), "start: open state: find container x"; got != want {
		t.Fatalf("text %q, want %q", got, want)
	}
	if HintOf(err) != "see `berth ps -a`" {
		t.Fatalf("hint %q", HintOf(err))
	}
}

func TestKindOfSystemCalls(t *testing.T) {
	for err, want := range map[error]Kind{
		syscall.ENOSPC: NoSpace, syscall.EACCES: Permission, syscall.EROFS: Permission,
		syscall.EINVAL: Internal, errors.New("x"): Internal,
	} {
		if got := KindOf(Wrap("write a", err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

func TestJoinedErrorsKeepTheirKind(t *testing.T) {
	err := Wrap("check", errors.Join(nil, errors.New("a"), New(Invalid, "b", nil).WithHint("c")))
	if KindOf(err) != Invalid || HintOf(err) != "c" {
		t.Errorf("kind %v, hint %q", KindOf(err), HintOf(err))
	}
}

func TestWireKeepsKindTextHint(t *testing.T) {
	for k := Kind(0); k < numKinds; k++ {
		b, err := json.Marshal(ToWire(New(k, "do it", errors.New("no")).WithHint("try")))
		if err != nil {
			t.Fatal(err)
		}
		var w Wire
		if err := json.Unmarshal(b, &w); err != nil {
			t.Fatal(err)
		}
		got := w.Err()
		if got.Error() != "do it: no" || KindOf(got) != k || HintOf(got) != "try" {
			t.Errorf("%v came back as %v, kind %v, hint %q", k, got, KindOf(got), HintOf(got))
		}
	}
	if ToWire(nil).Err() != nil || Wrap("x", nil) != nil {
		t.Error("nil did not stay nil")
	}
}
