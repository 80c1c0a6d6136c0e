//go:build linux

package mountpoint

import (
	"fmt"
	"os"
	"strings"

	docker "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// CheckPropagation refuses a bind mount that is to be shared, or to follow the host's, where the host's mount is neither:
// nothing would ever come through.
func (m *Point) CheckPropagation() error {
	shared := m.Propagation == docker.PropagationShared || m.Propagation == docker.PropagationRShared
	if !shared && m.Propagation != docker.PropagationSlave && m.Propagation != docker.PropagationRSlave {
		return nil
	}
	on, fields, err := mountOf(m.Source)
	if err != nil {
		return errs.Wrap("use "+m.Source, err)
	}
	switch {
	case strings.Contains(fields, " shared:"), !shared && strings.Contains(fields, " master:"):
		return nil
	case shared:
		return errs.Text(errs.Invalid, fmt.Sprintf("path %s is mounted on %s but it is not a shared mount", m.Source, on)).WithHint("mount --make-shared " + on)
	}
	return errs.Text(errs.Invalid, fmt.Sprintf("path %s is mounted on %s but it is not a shared or slave mount", m.Source, on)).WithHint("mount --make-shared " + on)
}

// mountOf finds the mount that a path lies on, and the optional fields that proc_pid_mountinfo(5) has of it.
func mountOf(path string) (on, fields string, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return "", "", err
	}
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(list)) {
		var id uint64
		own, _, _ := strings.Cut(line, " - ")
		words := strings.Split(own, " ")
		if _, err := fmt.Sscan(words[0], &id); err == nil && id == st.Mnt_id && len(words) > 5 {
			return words[4], " " + strings.Join(words[6:], " "), nil
		}
	}
	return "", "", fmt.Errorf("its mount is not in /proc/self/mountinfo")
}
