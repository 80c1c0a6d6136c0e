//go:build linux

package systemd

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/berth-containers/berth/internal/errs"
)

// FromAnnotations reads the properties that a specification's annotations name: org.systemd.property.NAME, with a value in
// GVariant's text format (docs.gtk.org/glib, "GVariant Text Format"), as runc does. A time may be given in seconds, with a
// name in -Sec, where systemd has one in microseconds, -USec.
func FromAnnotations(annotations map[string]string) (*Properties, error) {
	out := &Properties{}
	for key, text := range annotations {
		name, ok := strings.CutPrefix(key, "org.systemd.property.")
		if !ok {
			continue
		}
		if err := out.fromText(name, text); err != nil {
			return nil, errs.New(errs.Invalid, "read annotation "+key, err)
		}
	}
	return out, nil
}

func (p *Properties) fromText(name, text string) error {
	if len(name) < 3 || strings.Trim(name, letters) != "" {
		return errors.New("that is no name of a property")
	}
	short, ok := strings.CutSuffix(name, "Sec")
	if ok && short != "" && short[len(short)-1] >= 'a' { // TimeoutStopUSec is as systemd has it
		seconds, err := strconv.ParseFloat(text[strings.LastIndexByte(text, ' ')+1:], 64) // uint64 5, or 5
		if err != nil || !(seconds >= 0 && seconds < math.MaxUint64/1e6) {
			return errors.New("it is no number of seconds")
		}
		p.Number(short+"USec", uint64(seconds*1e6))
		return nil
	}
	v := &parser{left: text}
	t, err := v.value("")
	if err == nil && (v.peek() != 0 || len(t) > 255 || strings.Contains(text, "\x00") || !utf8.ValidString(text)) {
		err = errText
	}
	if err != nil {
		return err
	}
	p.begin(name, t)
	v = &parser{left: text, encoder: p.encoder}
	_, err = v.value(t)
	p.encoder = v.encoder
	return err
}

// parser reads a value in GVariant's text format, true, 'text', "text", 5, 1.5, uint64 5, [1, 2], ('a', 'b'), @as [], and
// writes it. A whole number without a type is an int32. It goes twice: the type of all is not known before its end, and
// what is written depends on it.
type parser struct {
	encoder
	left  string
	depth int
}

var errText = errors.New("it is no value in GVariant's text format")

// peek is the next byte that is no space; 0 at the end.
//
//go:noinline
func (p *parser) peek() byte {
	p.left = strings.TrimLeft(p.left, " \t\r\n")
	if p.left == "" {
		return 0
	}
	return p.left[0]
}

// word takes what comes before the next of the stops.
func (p *parser) word(stops string) string {
	p.peek()
	n := strings.IndexAny(p.left, stops)
	if n < 0 {
		n = len(p.left)
	}
	word := p.left[:n]
	p.left = p.left[n:]
	return word
}

// value reads a value of the type t, or of the one that it has by itself, which it returns.
func (p *parser) value(t string) (own string, err error) {
	if p.depth++; p.depth > 32 {
		return "", errText
	}
	switch c := p.peek(); c {
	case '@':
		p.left = p.left[1:]
		own, err = p.value(p.word(" \t\r\n"))
	case '\'', '"':
		own, err = p.quoted(t)
	case '[':
		p.left = p.left[1:]
		own, err = p.list('a', ']', strings.TrimPrefix(t, "a"))
	case '(':
		p.left = p.left[1:]
		own, err = p.list('(', ')', strings.TrimSuffix(strings.TrimPrefix(t, "("), ")"))
	default:
		word := p.word(" \t\r\n,[]()'\"@")
		if named := typeByWord(word); named != "" {
			own, err = p.value(named)
		} else {
			own, err = p.scalar(word, t)
		}
	}
	if err == nil && t != "" && own != t {
		err = errText
	}
	p.depth--
	return own, err
}

// typeByWord is the type of a number or text by its name.
func typeByWord(word string) string {
	const words = " byte:y int16:n uint16:q int32:i uint32:u int64:x uint64:t double:d boolean:b string:s objectpath:o signature:g "
	if _, rest, ok := strings.Cut(words, " "+word+":"); ok {
		return rest[:1]
	}
	return ""
}

// scalar reads a truth or a number.
func (p *parser) scalar(word, t string) (string, error) {
	size, n := 4, uint64(0)
	var err error
	switch {
	case word == "true" || word == "false":
		t = "b"
		if word == "true" {
			n = 1
		}
	case t == "d" || t == "" && strings.Contains(word, "."):
		var f float64
		f, err = strconv.ParseFloat(word, 64)
		t, size, n = "d", 8, math.Float64bits(f)
	default:
		if t == "" {
			t = "i"
		}
		if len(t) != 1 || !strings.Contains("ynqiuxt", t) {
			return "", errText
		}
		size = align(t[0])
		if strings.Contains("nix", t) {
			var signed int64
			signed, err = strconv.ParseInt(word, 0, 8*size)
			n = uint64(signed)
		} else {
			n, err = strconv.ParseUint(word, 0, 8*size)
		}
	}
	if err != nil {
		return "", errText
	}
	p.number(size, n)
	return t, nil
}

func (p *parser) quoted(t string) (string, error) {
	var text []byte
	for i := 1; i < len(p.left); i++ {
		c := p.left[i]
		if c == p.left[0] {
			p.left = p.left[i+1:]
			if t != "o" && t != "g" {
				t = "s"
			}
			p.text(t[0], string(text))
			return t, nil
		}
		if c == '\\' && i+1 < len(p.left) {
			i++
			if c = p.left[i]; c == 'n' {
				c = '\n'
			} else if c == 't' {
				c = '\t'
			}
		}
		text = append(text, c)
	}
	return t, errText
}

// first is the first complete type of some.
func first(types string) string {
	open := 0
	for i, c := range []byte(types) {
		switch c {
		case '(':
			open++
		case ')':
			open--
		case 'a':
			continue
		}
		if open <= 0 {
			return types[:i+1]
		}
	}
	return types
}

// list reads an array or a tuple, whose type after its first letter is inner.
func (p *parser) list(kind, end byte, inner string) (own string, err error) {
	read := func() {
		for n := 0; p.peek() != end; n++ {
			if n > 0 {
				if p.left == "" || p.left[0] != ',' {
					err = errText
					return
				}
				p.left = p.left[1:]
			}
			element := inner
			if kind == '(' {
				element = first(inner)
				inner = inner[len(element):]
			}
			var t string
			if t, err = p.value(element); err != nil {
				return
			}
			if kind == 'a' {
				inner, own = t, t
			} else {
				own += t
			}
		}
		p.left = p.left[1:]
	}
	if kind == '(' {
		p.pad(8)
		read()
		if own == "" && err == nil {
			err = errText
		}
		return "(" + own + ")", err
	}
	first := byte('y')
	if inner != "" {
		first = inner[0]
	}
	if align(first) == 0 {
		return "", errText
	}
	p.array(first, read)
	if own == "" && err == nil { // an empty one is what it is said to be: of one letter, or of letters in brackets
		kinds := strings.TrimSuffix(strings.TrimPrefix(inner, "("), ")")
		if own = inner; kinds == "" || strings.Trim(kinds, "ynqiuxtdbsog") != "" || len(inner) != 1 && len(inner) != len(kinds)+2 {
			err = errText
		}
	}
	return "a" + own, err
}
