//go:build linux

package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// inNamespace runs fn on a thread in a new network namespace with its loopback up, and hands the namespace over.
func newNamespace(t *testing.T) *os.File {
	t.Helper()
	var ns *os.File
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() (err error) {
			if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			ifr, _ := unix.NewIfreq("lo")
			ifr.SetUint16(unix.IFF_UP)
			if err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
				return err
			}
			ns, err = os.Open("/proc/thread-self/ns/net")
			return err
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// dialIn makes sockets in a namespace.
func dialIn(ns *os.File) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, network, _ string) (c net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
				c, err = net.DialTimeout(network, Address+":53", 5*time.Second)
			}
		}()
		<-done
		return c, err
	}
}

// world is a name server outside: it knows one name with few and one with many addresses.
func world(t *testing.T) *Upstream {
	t.Helper()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := u.LocalAddr().(*net.UDPAddr).Port
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close(); l.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			out := worldAnswer(buf[:n])
			if len(out) > 512 {
				out = truncated(buf[:n])
			}
			_, _ = u.WriteTo(out, from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if q, err := readMessage(c); err == nil {
				_ = writeMessage(c, worldAnswer(q))
			}
			c.Close()
		}
	}()
	return &Upstream{Servers: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: uint16(port)}
}

func worldAnswer(query []byte) []byte {
	var p dnsmessage.Parser
	h, _ := p.Start(query)
	q, err := p.Question()
	if err != nil {
		return nil
	}
	many := 0
	switch q.Name.String() {
	case "example.org.":
		many = 1
	case "many.example.org.":
		many = 100
	default:
		return refuse(query, dnsmessage.RCodeNameError)
	}
	var addrs []netip.Addr
	for i := range many {
		addrs = append(addrs, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	return new(Zone).build(h, q, addrs, "", false)
}

func lab(t *testing.T, u *Upstream) (Records, *net.Resolver) {
	t.Helper()
	r := Records(t.TempDir())
	ns := newNamespace(t)
	s, err := Listen(ns, Zone{Records: r, Networks: []string{"n1", "n2"},
		Hosts: map[string]netip.Addr{"host.docker.internal": netip.MustParseAddr("10.0.0.1")}}, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve() }()
	t.Cleanup(func() { s.Close(); <-done })
	return r, &net.Resolver{PreferGo: true, Dial: dialIn(ns)}
}

func add(t *testing.T, r Records, network, name, container string, addrs ...string) []string {
	t.Helper()
	var as []netip.Addr
	for _, a := range addrs {
		as = append(as, netip.MustParseAddr(a))
	}
	e := Entry{Network: network, Container: container, Names: []string{name}, Host: strings.ToLower(name) + "." + network, Addresses: as}
	if err := r.Add(e); err != nil {
		t.Fatal(err)
	}
	return r.Files(e)
}

func lookup(t *testing.T, res *net.Resolver, name string) string {
	t.Helper()
	as, err := res.LookupHost(context.Background(), name)
	if err != nil {
		return "error: " + err.Error()
	}
	sort.Strings(as)
	return strings.Join(as, " ")
}

func TestNamesOfContainers(t *testing.T) {
	r, res := lab(t, world(t))
	add(t, r, "n1", "DB", "c1", "10.0.0.2", "fd00::2")
	web := add(t, r, "n2", "web", "c2", "10.0.1.2")
	add(t, r, "n2", "web", "c3", "10.0.1.3")
	add(t, r, "other", "secret", "c4", "10.9.9.9")
	for name, want := range map[string]string{
		"db.": "10.0.0.2 fd00::2", "Db.": "10.0.0.2 fd00::2", "web.": "10.0.1.2 10.0.1.3", "host.docker.internal.": "10.0.0.1",
		"example.org.": "198.51.100.0",
	} {
		if got := lookup(t, res, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"secret.", "nobody.", "..%2f.."} {
		if got := lookup(t, res, name); !strings.HasPrefix(got, "error") {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, a := range []string{"10.0.0.2", "fd00::2"} {
		if names, err := res.LookupAddr(context.Background(), a); err != nil || len(names) != 1 || names[0] != "db.n1." {
			t.Errorf("PTR of %s: %v, %v", a, names, err)
		}
	}
	for _, f := range web {
		_ = os.Remove(f) // the folder stays, the other has the name too
	}
	if got := lookup(t, res, "web."); got != "10.0.1.3" {
		t.Errorf("one of two gone: %s", got)
	}
}

func TestLongAnswersComeByTCP(t *testing.T) {
	r, res := lab(t, world(t))
	if got := len(strings.Fields(lookup(t, res, "many.example.org."))); got != 100 {
		t.Errorf("%d addresses of the world's, want 100", got)
	}
	for i := range 80 {
		add(t, r, "n1", "all", "c"+string(rune('A'+i)), netip.AddrFrom4([4]byte{10, 0, 2, byte(i)}).String())
	}
	if got := len(strings.Fields(lookup(t, res, "all."))); got != 80 {
		t.Errorf("%d addresses of ours, want 80", got)
	}
}

// An alias belongs to one container, and follows the name that it stands for.
func TestAlias(t *testing.T) {
	r, res := lab(t, world(t))
	if err := r.Alias("n2", "store", "n1", "db"); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, res, "store."); !strings.HasPrefix(got, "error") {
		t.Errorf("an alias of nobody is %s", got)
	}
	add(t, r, "n1", "db", "c1", "10.0.0.2")
	if got := lookup(t, res, "store."); got != "10.0.0.2" {
		t.Errorf("alias: %s", got)
	}
	if names := r.texts([]string{"n2"}, "../n1/db"); names != nil {
		t.Errorf("a name that leads elsewhere: %v", names)
	}
	r.DropAliases("n2", "n0")
	if got := lookup(t, res, "store."); got != "10.0.0.2" {
		t.Errorf("alias, after those in another network were dropped: %s", got)
	}
	r.DropAliases("n2", "n1")
	if got := lookup(t, res, "store."); !strings.HasPrefix(got, "error") {
		t.Errorf("a dropped alias is %s", got)
	}
}

func TestAnswersCarryTheOptionRecord(t *testing.T) {
	z := &Zone{Hosts: map[string]netip.Addr{"host.docker.internal": netip.MustParseAddr("10.0.0.1")}}
	for _, with := range []bool{false, true} {
		b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7})
		_ = b.StartQuestions()
		_ = b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName("Host.Docker.Internal."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
		if with {
			var opt dnsmessage.ResourceHeader
			_ = opt.SetEDNS0(4096, dnsmessage.RCodeSuccess, false)
			_ = b.StartAdditionals()
			_ = b.OPTResource(opt, dnsmessage.OPTResource{})
		}
		q, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		out, _ := z.answer(q)
		if out == nil || edns(out) != with || limit(q) != map[bool]int{false: 512, true: 4096}[with] {
			t.Errorf("question with OPT %v: answer %x, limit %d", with, out, limit(q))
		}
	}
}

// An internal network must not be a way to ask the world (CVE-2024-29018).
func TestInternalNetworkAsksNobody(t *testing.T) {
	_, res := lab(t, nil)
	if got := lookup(t, res, "example.org."); !strings.HasPrefix(got, "error") {
		t.Errorf("an internal network resolved %s", got)
	}
}

func TestUpstreamFollowsItsFile(t *testing.T) {
	good := world(t)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s string, at time.Time) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	u := &Upstream{File: file, Port: good.Port}
	_, res := lab(t, u)
	write("# nobody\n", time.Unix(1000, 0))
	if got := lookup(t, res, "example.org."); !strings.HasPrefix(got, "error") {
		t.Errorf("no server and an answer: %s", got)
	}
	write("search x\nnameserver 127.0.0.1\n", time.Unix(2000, 0))
	if got := lookup(t, res, "example.org."); got != "198.51.100.0" {
		t.Errorf("after the change: %s", got)
	}
}

func FuzzAnswer(f *testing.F) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	_ = b.StartQuestions()
	_ = b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName("db."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
	q, _ := b.Finish()
	f.Add(q)
	f.Add([]byte{})
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	z := &Zone{Records: Records(f.TempDir()), Networks: []string{"n"}}
	_ = z.Records.Add(Entry{Network: "n", Container: "c", Names: []string{"db"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}})
	f.Fuzz(func(t *testing.T, query []byte) {
		for _, out := range [][]byte{refuse(query, dnsmessage.RCodeServerFailure), truncated(query)} {
			if out != nil && (len(query) < 12 || out[0] != query[0] || out[1] != query[1]) {
				t.Errorf("an answer to another question: %x to %x", out, query)
			}
		}
		out, _ := z.answer(query)
		if out != nil && (out[0] != query[0] || out[1] != query[1] || limit(query) < 512) {
			t.Errorf("an answer to another question: %x to %x", out, query)
		}
	})
}
