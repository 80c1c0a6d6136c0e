//go:build linux

package trace

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestPack(t *testing.T) {
	first := []Record{
		{Process: "init", Name: "mount", Why: "as it must be", Args: []Arg{{"on", "/proc"}, {"empty", ""}}, At: 5 * time.Hour, Took: 3},
		{Process: "init", Name: "execve", Err: "no such file"},
	}
	second := []Record{{Process: "monitor", Name: "clone", At: 1}}
	got, err := Unpack(append(Pack(first), Pack(second)...))
	if want := append(first, second...); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := Unpack(nil); err != nil || len(got) != 0 {
		t.Errorf("nothing packed: %v, %v", got, err)
	}
	whole := Pack(second)
	for n := 1; n < len(whole); n++ {
		if got, err := Unpack(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken as %+v", n, len(whole), got)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(Pack([]Record{{Process: "a", Name: "b", Args: []Arg{{"c", "d"}}, At: 1, Took: 2}}))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := Unpack(b)
		if err != nil {
			return
		}
		again, err := Unpack(Pack(records))
		if err != nil || !reflect.DeepEqual(again, records) {
			t.Fatalf("%+v is packed and read as %+v, %v", records, again, err)
		}
		if len(records) == 0 && !bytes.Equal(b, nil) {
			t.Fatalf("%x is nothing", b)
		}
	})
}
