//go:build linux

package systemd

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-containers/berth/internal/errs"
)

// The bytes of a call. Those of its arguments are what another implementation, godbus, makes of the same.
func TestGoldenCall(t *testing.T) {
	ps := &Properties{}
	ps.Text("Slice", "a.slice")
	ps.Switch(true, "Delegate")
	ps.Processes("PIDs", 258)
	ps.Number("TasksMax", 1)
	ps.Bytes("AllowedCPUs", []byte{3})
	ps.Pairs("DeviceAllow", [][2]string{{"char-*", "m"}})
	args := texts("a.scope")
	args.number(4, 1)
	args.array('(', func() { args.b = append(args.b, ps.b...) })
	m := &message{serial: 7, path: "/p", iface: "i", member: "m", types: "sba(sv)"}
	want := "6c010001d2000000070000003d000000" + // little end, call, version 1; 210 bytes of arguments, serial 7, 61 of fields
		"01016f00020000002f70000000000000" + // 1: path
		"02017300010000006900000000000000" + // 2: interface
		"03017300010000006d00000000000000" + // 3: member
		"08016700077362612873762900000000" + // 8: types
		"07000000612e73636f70650001000000ba0000000000000005000000536c6963650001730000000007000000612e736c" +
		"69636500000000000800000044656c656761746500016200010000000000000004000000504944730002617500000000" +
		"0400000002010000080000005461736b734d61780001740001000000000000000b000000416c6c6f7765644350557300" +
		"026179000100000003000000000000000b000000446576696365416c6c6f770005612873732900001200000000000000" +
		"06000000636861722d2a0000010000006d00"
	if got := hex.EncodeToString(m.encode(args.b)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// dump writes properties as text: what a decoder of the test's own reads of them.
func dump(t *testing.T, ps *Properties) string {
	t.Helper()
	d := &decoder{b: ps.b}
	var out []string
	for d.at < len(d.b) && !d.bad {
		d.take(8, 0)
		name, typ := d.text('s'), d.text('g')
		out = append(out, name+"="+dumpValue(d, typ))
	}
	if d.bad {
		t.Fatalf("unreadable: %x", ps.b)
	}
	return strings.Join(out, " ")
}

func dumpValue(d *decoder, typ string) string {
	switch typ[0] {
	case 's', 'o', 'g':
		return fmt.Sprintf("%q", d.text(typ[0]))
	case 'a':
		n := int(d.number())
		d.take(align(typ[1]), 0)
		var out []string
		for end := d.at + n; d.at < end && !d.bad; {
			out = append(out, dumpValue(d, typ[1:]))
		}
		return "[" + strings.Join(out, ",") + "]"
	case '(':
		d.take(8, 0)
		var out []string
		for left := typ[1 : len(typ)-1]; left != ""; {
			one := first(left)
			out, left = append(out, dumpValue(d, one)), left[len(one):]
		}
		return "(" + strings.Join(out, ",") + ")"
	}
	size := align(typ[0])
	b := append([]byte{}, d.take(size, size)...)
	return fmt.Sprintf("%s:%d", typ, binary.LittleEndian.Uint64(append(b, make([]byte, 8)...)))
}

func TestAnnotations(t *testing.T) {
	for text, want := range map[string]string{
		"'inactive-or-failed'":                `"inactive-or-failed"`,
		`"a'b\"c\\"`:                          `"a'b\"c\\"`,
		"true":                                "b:1",
		" false ":                             "b:0",
		"5":                                   "i:5",
		"-1":                                  "i:4294967295",
		"0x10":                                "i:16",
		"uint64 18446744073709551615":         "t:18446744073709551615",
		"byte 255":                            "y:255",
		"int16 -2":                            "n:65534",
		"@t 7":                                "t:7",
		"1.5":                                 "d:4609434218613702656",
		"double 1":                            "d:4607182418800017408",
		"objectpath '/a'":                     `"/a"`,
		"['a.service', 'b.service']":          `["a.service","b.service"]`,
		"@as []":                              "[]",
		"[uint64 1, 2]":                       "[t:1,t:2]",
		"[('/dev/null', 'rw'), ('b', 'm')]":   `[("/dev/null","rw"),("b","m")]`,
		"(1, 'x', [(true, uint64 2)])":        `(i:1,"x",[(b:1,t:2)])`,
		"@a(su) [('a', 1), ('b', 2)]":         `[("a",u:1),("b",u:2)]`,
		"@(yas) (1, [])":                      `(y:1,[])`,
		"[[uint64 1], [2, 3]]":                "[[t:1],[t:2,t:3]]",
		"[@at [], [1]]":                       "[[],[t:1]]",
		"('" + strings.Repeat("x", 9) + "',)": "",
		"":                                    "", "x": "", "'a": "", "[1, 'a']": "", "[]": "", "()": "", "256 1": "", "byte 256": "", "@": "", "@a 1": "", "[1": "", "(1": "", "uint32 -1": "",
		strings.Repeat("[", 1000): "", "'\xff'": "", "'a\x00'": "", "1 1": "", "@i 'a'": "", "uint32 'a'": "",
	} {
		ps, err := FromAnnotations(map[string]string{"org.systemd.property.Name": text, "other": "x"})
		if want == "" {
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "org.systemd.property.Name") {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := dump(t, ps); got != "Name="+want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestAnnotationsInSeconds(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"TimeoutStopSec", "5"}:         "TimeoutStopUSec=t:5000000",
		{"TimeoutStopSec", "uint64 5"}:  "TimeoutStopUSec=t:5000000",
		{"TimeoutStopSec", "1.5"}:       "TimeoutStopUSec=t:1500000",
		{"TimeoutStopUSec", "uint64 9"}: "TimeoutStopUSec=t:9",
		{"TimeoutStopSec", "-1"}:        "", {"TimeoutStopSec", "'5'"}: "", {"TimeoutStopSec", "1e30"}: "", {"TimeoutStopSec", "NaN"}: "", {"TimeoutStopSec", ""}: "",
		{"Sec", "'s'"}: `Sec="s"`, {"A-b", "1"}: "", {"Ab", "1"}: "", {"", "1"}: "",
	} {
		ps, err := FromAnnotations(map[string]string{"org.systemd.property." + in[0]: in[1]})
		if err != nil && want == "" {
			continue
		}
		if err != nil || want == "" {
			t.Errorf("%q: %v", in, err)
		} else if got := dump(t, ps); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}

func TestScopeAndSlice(t *testing.T) {
	for _, c := range []struct {
		path        string
		user        bool
		slice, unit string
	}{
		{"", false, "system.slice", "berth-runtime-id.scope"},
		{"", true, "user.slice", "berth-runtime-id.scope"},
		{"machine.slice:libpod:abc", false, "machine.slice", "libpod-abc.scope"},
		{":p:n", true, "user.slice", "p-n.scope"},
		{"/a/b", false, "", ""}, {"a:b", false, "", ""}, {"a:b:c:d", false, "", ""}, {":p:x.slice", false, "", ""}, {":p/q:x", false, "", ""}, {":p:../x", false, "", ""},
		{":p:" + strings.Repeat("x", 300), false, "", ""}, {":p:a\nb", false, "", ""},
	} {
		slice, unit, err := Scope(c.path, "id", c.user)
		if slice != c.slice || unit != c.unit || (err != nil) != (c.unit == "") || err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %q, %q, %v", c.path, slice, unit, err)
		}
	}
	for slice, want := range map[string]string{"a.slice": "/a.slice/", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice/", "-.slice": "/",
		"": "", ".slice": "", "a": "", "-a.slice": "", "a--b.slice": "", "a/b.slice": "", "a-.slice": "", "../x.slice": ""} {
		if got, err := slicePath(slice); got != want || (err != nil) != (want == "") {
			t.Errorf("%q lies in %q, %v; want %q", slice, got, err, want)
		}
	}
}

// fake is a systemd of a test's own: it answers each call by a function, which may send signals, too.
type fake struct {
	t      *testing.T
	calls  []string
	answer func(m *message) (kind byte, errorName, types string, body encoder)
	conn   net.Conn
}

func (f *fake) serve(l net.Listener, bus bool) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f.conn = conn
		f.talk(bus)
		conn.Close()
	}
}

func (f *fake) talk(bus bool) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(f.conn, b); err != nil {
			return nil
		}
		return b
	}
	read(len("\x00AUTH EXTERNAL\r\n"))
	if !bus { // as systemd; dbus-daemon and older systemd answer at once
		fmt.Fprint(f.conn, "DATA\r\n")
		read(len("DATA\r\n"))
	}
	fmt.Fprint(f.conn, "OK 0123456789abcdef0123456789abcdef\r\n")
	read(len("BEGIN\r\n"))
	for {
		head := read(fixed)
		if head == nil {
			return
		}
		n, err := size(head)
		if err != nil {
			f.t.Error(err)
			return
		}
		m, err := decode(append(head, read(n-fixed)...))
		if err != nil {
			f.t.Error(err)
			return
		}
		f.calls = append(f.calls, m.member)
		kind, name, types, body := f.answer(m)
		if kind != 0 {
			f.send(&message{kind: kind, err: name, types: types, reply: m.serial}, body)
		}
	}
}

// send writes a message, big end first, which no call of ours is.
func (f *fake) send(m *message, body encoder) {
	text := func(b []byte, s string) []byte {
		return append(append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...), 0)
	}
	pad := func(b []byte) []byte { return append(b, make([]byte, (8-len(b)%8)%8)...) }
	var fields []byte
	field := func(code byte, typ, s string) {
		if s != "" {
			fields = append(pad(fields), code, 1, typ[0], 0)
			if typ == "g" {
				fields = append(append(append(fields, byte(len(s))), s...), 0)
			} else {
				fields = text(fields, s)
			}
		}
	}
	if m.reply != 0 {
		fields = binary.BigEndian.AppendUint32(append(fields, fieldReply, 1, 'u', 0), m.reply)
	}
	field(fieldInterface, "s", m.iface)
	field(fieldMember, "s", m.member)
	field(fieldError, "s", m.err)
	field(fieldSignature, "g", m.types)
	b := []byte{'B', m.kind, 0, 1}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body.b)))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(fields)))
	_, _ = f.conn.Write(append(pad(append(b, fields...)), body.b...))
}

// bigTexts is a body of texts and numbers, big end first.
func bigTexts(types string, ss ...string) encoder {
	var b []byte
	for i, t := range types {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		switch t {
		case 'u':
			b = binary.BigEndian.AppendUint32(b, 1)
			continue
		case 'v':
			b = append(b, 1, 's', 0, 0)
		}
		b = append(append(binary.BigEndian.AppendUint32(b, uint32(len(ss[i]))), ss[i]...), 0)
	}
	return encoder{b}
}

func start(t *testing.T, bus bool, answer func(f *fake, m *message) (byte, string, string, encoder)) (*fake, *Manager) {
	t.Helper()
	run := t.TempDir()
	socket := run + "/systemd/private"
	if bus {
		socket = run + "/dbus/system_bus_socket"
	}
	for _, dir := range []string{run + "/systemd/system", filepath.Dir(socket)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &fake{t: t}
	f.answer = func(m *message) (byte, string, string, encoder) { return answer(f, m) }
	go f.serve(l, bus)
	m, err := dialIn(run, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return f, m
}

// A unit is started once its job has ended, whatever else is told before; by systemd's socket and by a bus.
func TestStartUnit(t *testing.T) {
	for _, bus := range []bool{false, true} {
		failed := true
		f, m := start(t, bus, func(f *fake, m *message) (byte, string, string, encoder) {
			switch m.member {
			case "StartTransientUnit":
				if failed {
					failed = false
					return errorReply, unitExists, "s", bigTexts("s", "Unit x.scope was already loaded")
				}
				f.send(&message{kind: signal, iface: managerIface, member: "UnitNew", types: "so"}, bigTexts("so", "x.scope", "/u"))
				f.send(&message{kind: methodReturn, reply: m.serial, types: "o"}, bigTexts("o", "/job/2"))
				f.send(&message{kind: signal, iface: managerIface, member: "JobRemoved", types: "uoss"}, bigTexts("uoss", "", "/job/1", "y.scope", "failed"))
				f.send(&message{kind: signal, iface: managerIface, member: "JobRemoved", types: "uoss"}, bigTexts("uoss", "", "/job/2", "x.scope", "done"))
				return 0, "", "", encoder{}
			case "Get":
				return methodReturn, "", "v", bigTexts("v", "v252.38-1~deb12u1")
			}
			return methodReturn, "", "", encoder{}
		})
		if err := m.StartUnit("x.scope", &Properties{}); err != nil {
			t.Fatalf("bus %v: %v", bus, err)
		}
		if n, err := m.Version(); n != 252 || err != nil {
			t.Errorf("version %d, %v", n, err)
		}
		want := "StartTransientUnit ResetFailedUnit StartTransientUnit Get"
		if bus {
			want = "Hello AddMatch Subscribe StartTransientUnit ResetFailedUnit AddMatch Subscribe StartTransientUnit Get"
		}
		if got := strings.Join(f.calls, " "); got != want {
			t.Errorf("bus %v: calls %s", bus, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	result := ""
	_, m := start(t, false, func(f *fake, m *message) (byte, string, string, encoder) {
		switch {
		case m.member == "StopUnit" && result == "":
			return errorReply, noSuchUnit, "", encoder{}
		case m.member == "SetUnitProperties":
			return errorReply, "org.freedesktop.DBus.Error.PropertyReadOnly", "s", bigTexts("s", "Cannot set property X")
		case m.member == "StartTransientUnit" && result == "":
			return errorReply, unitExists, "s", bigTexts("s", "it is there")
		case m.member == "ResetFailedUnit":
			return errorReply, noSuchUnit, "", encoder{}
		}
		f.send(&message{kind: signal, iface: managerIface, member: "JobRemoved", types: "uoss"}, bigTexts("uoss", "", "/job/2", "x.scope", result)) // before the answer
		return methodReturn, "", "o", bigTexts("o", "/job/2")
	})
	if err := m.StopUnit("x.scope"); err != nil {
		t.Errorf("stop of what is not there: %v", err)
	}
	if err := m.StartUnit("x.scope", &Properties{}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "x.scope") {
		t.Errorf("start of what is there: %v", err)
	}
	if err := m.SetProperties("x.scope", &Properties{}); err == nil || !strings.Contains(err.Error(), "Cannot set property X") {
		t.Errorf("refused: %v", err)
	}
	result = "timeout"
	if err := m.StartUnit("x.scope", &Properties{}); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("failed job: %v", err)
	}
	if err := m.StopUnit("x.scope"); err == nil {
		t.Error("a failed stop is told")
	}
}

// What is not D-Bus, or ends, is an error at once.
func TestBrokenPeers(t *testing.T) {
	for _, says := range []string{"", "REJECTED EXTERNAL\r\n", "ERROR\r\n", strings.Repeat("x", 20000), "OK 0\r\nHTTP/1.1 400 Bad Request\r\n\r\n", "OK 0\r\nl\x02\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff"} {
		run := t.TempDir()
		if err := os.MkdirAll(run+"/systemd/system", 0o755); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", run+"/systemd/private")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 100))
				_, _ = io.WriteString(c, says)
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, _ = c.Read(make([]byte, 1000)) // BEGIN and perhaps the call
				c.Close()
			}
		}()
		m, err := dialIn(run, false)
		if err == nil {
			_, err = m.Version()
			m.Close()
		}
		if err == nil {
			t.Errorf("%.20q is taken", says)
		}
		l.Close()
	}
	if _, err := dialIn(t.TempDir(), false); !errs.Is(err, errs.Unsupported) || errs.HintOf(err) == "" {
		t.Errorf("without systemd: %v", err)
	}
}

// The socket of a user's systemd is that of the session.
func TestUserAddress(t *testing.T) {
	run := t.TempDir()
	if err := os.MkdirAll(run+"/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if _, err := dialIn(run, true); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("without a session: %v", err)
	}
	t.Setenv("XDG_RUNTIME_DIR", run+"/user")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+run+"/own,guid=1")
	if _, err := dialIn(run, true); err == nil || !strings.Contains(err.Error(), run+"/user/systemd/private") || !strings.Contains(err.Error(), run+"/own: ") {
		t.Errorf("nobody there: %v", err)
	}
}

// Whatever comes, it is read or refused.
func FuzzDecode(f *testing.F) {
	m := &message{serial: 1, path: "/p", iface: "i", member: "m", types: "ss"}
	f.Add(m.encode(texts("a", "b").b))
	f.Add([]byte("l\x02\x01\x01\x0b\x00\x00\x00\x01\x00\x00\x00\x0f\x00\x00\x00\x05\x01u\x00\x01\x00\x00\x00\x08\x01g\x00\x01o\x00\x00\x06\x00\x00\x00/job/1\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < fixed {
			return
		}
		n, err := size(b[:fixed])
		if err != nil || n > len(b) {
			return
		}
		m, err := decode(b[:n])
		if err != nil {
			return
		}
		for _, types := range []string{"", "s", "o", "v", "uoss"} {
			_, _ = m.texts(types)
		}
	})
}

// Whatever an annotation says, it is refused or written as one value of its type.
func FuzzAnnotation(f *testing.F) {
	for _, s := range []string{"'a'", "uint64 5", "[('a', 1.5)]", "@a(su) [('a', 1)]", "((true,),)", "@as []", "[[1], []]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ps, err := FromAnnotations(map[string]string{"org.systemd.property.Name": text})
		if err != nil {
			return
		}
		dump(t, ps) // it reads to the end
		d := &decoder{b: ps.b}
		d.text('s')
		typ := d.text('g')
		if first(typ) != typ {
			t.Errorf("%q has the type %q", text, typ)
		}
		if dumpValue(d, typ); d.bad || d.at != len(d.b) {
			t.Errorf("%q: %d of %d bytes are of the type %q", text, d.at, len(d.b), typ)
		}
	})
}
