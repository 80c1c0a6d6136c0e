//go:build linux

package change

import (
	"testing"

	"github.com/berth-containers/berth/internal/errs"
)

func TestChanges(t *testing.T) {
	for _, bad := range []string{"", "CMD", "RUN x", "ENV", "EXPOSE x", "STOPSIGNAL NOPE", "LABEL a"} {
		if _, err := Parse([]string{bad}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
