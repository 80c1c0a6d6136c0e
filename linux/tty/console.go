//go:build linux

package tty

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// maxName bounds the name that comes with a descriptor; more would be cut off and is refused.
const maxName = 4096

// SendConsole hands the master of a pty to the program that listens at a Unix socket of the host, as `--console-socket`
// of OCI runtimes asks for it: one message, whose data is the master's name and whose SCM_RIGHTS is its descriptor
// (unix(7)).
func SendConsole(socketPath string, master *os.File) error {
	return SendTo(socketPath, master, "terminal", "the caller's program gets our end of the container's terminal")
}

// SendTo sends a file in this way; what names it in errors.
func SendTo(socketPath string, f *os.File, what, why string) error {
	err := trace.Step("send "+what, why, "socket", socketPath).Do(func() error {
		socket, err := Dial(socketPath)
		if err != nil {
			return err
		}
		defer socket.Close()
		return SendFile(socket, f)
	})
	return errs.Wrap("send "+what+" to "+socketPath, err)
}

// Dial connects to a stream socket by its path, which may be longer than the 107 bytes of an address.
func Dial(path string) (*os.File, error) {
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	address := path
	if len(address) > 107 {
		address = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: address})
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// SendFile sends a descriptor and its name over a connected Unix socket.
func SendFile(socket, f *os.File) error {
	name := f.Name()
	if name == "" || len(name) > maxName {
		return errs.New(errs.Invalid, "send file", fmt.Errorf("its name has %d bytes; 1 to %d can be sent", len(name), maxName))
	}
	to, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = control(f, func(fd int) error {
		return to.Write(func(to uintptr) (done bool) {
			for sent = unix.EINTR; sent == unix.EINTR; {
				sent = unix.Sendmsg(int(to), []byte(name), unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
			}
			return sent != unix.EAGAIN
		})
	})
	if err == nil {
		err = os.NewSyscallError("sendmsg", sent)
	}
	return errs.Wrap("send file "+name, err)
}

// ReceiveFile waits for what [SendFile] sends, on a connected Unix socket. It refuses messages with no descriptor or
// more than one, and closes those. A sender that went away gives an error of kind Unavailable.
func ReceiveFile(socket *os.File) (*os.File, error) {
	from, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var f *os.File
	var received error
	err = from.Read(func(from uintptr) (done bool) {
		for received = unix.EINTR; received == unix.EINTR; {
			f, received = receive(int(from))
		}
		return received != unix.EAGAIN
	})
	if err == nil {
		err = received
	}
	return f, errs.Wrap("receive file", err)
}

// receive takes one message. EINTR and EAGAIN come back bare, for the caller to try again.
func receive(from int) (*os.File, error) {
	data := make([]byte, maxName)
	rights := make([]byte, unix.CmsgSpace(4*4))
	n, rn, flags, _, err := unix.Recvmsg(from, data, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	fds, err := descriptors(rights[:rn])
	if err == nil && (len(fds) != 1 || flags&unix.MSG_CTRUNC != 0) {
		switch {
		case n == 0 && rn == 0:
			err = errs.New(errs.Unavailable, "", fmt.Errorf("the sender closed the connection"))
		default:
			err = errs.New(errs.Invalid, "", fmt.Errorf("the message has %d descriptors instead of one", len(fds)))
		}
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), string(data[:n])), nil
}

func descriptors(rights []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}
