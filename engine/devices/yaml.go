//go:build linux

package devices

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The YAML that tools write CDI files in: mappings, sequences, both also in their flow form on one line, plain and quoted
// scalars, comments. What else YAML has (anchors, tags, texts of several lines) is refused by name, never guessed. A
// library would read it all, and make each start of the program a fifteenth slower.

type yamlLine struct {
	indent int
	text   string
	number int
}

type yamlReader struct {
	lines []yamlLine
	depth int
}

const deepest = 64 // nested values

func (r *yamlReader) fail(format string, args ...any) error {
	number := 0
	if len(r.lines) > 0 {
		number = r.lines[0].number
	}
	return fmt.Errorf("line %d: %s", number, fmt.Sprintf(format, args...))
}

// readYAML reads a document.
func readYAML(b []byte) (any, error) {
	r := &yamlReader{}
	if !utf8.Valid(b) || bytes.ContainsFunc(b, func(c rune) bool { return c != '\n' && c != '\r' && !unicode.IsPrint(c) }) {
		return nil, errors.New("it has characters that cannot be printed: write it as JSON")
	}
	for i, text := range strings.Split(string(b), "\n") {
		text = strings.TrimRight(text, " \r")
		if text == "---" && len(r.lines) == 0 {
			continue
		}
		bare := strings.TrimLeft(text, " ")
		content, plain := withoutComment(bare)
		l := yamlLine{len(text) - len(bare), strings.TrimRight(content, " "), i + 1}
		if l.text == "" && !strings.Contains(text, "\r") {
			continue
		}
		r.lines = append(r.lines, l)
		if !plain || strings.Contains(text, "\r") || strings.HasPrefix(text, "---") || strings.HasPrefix(text, "...") || strings.HasPrefix(text, "%") {
			r.lines = r.lines[len(r.lines)-1:]
			return nil, r.fail("%q is not read here: write it as JSON", text)
		}
	}
	if len(r.lines) == 0 {
		return nil, nil
	}
	v, err := r.block(r.lines[0].indent)
	if err == nil && len(r.lines) > 0 {
		err = r.fail("%q is indented as nothing before it", r.lines[0].text)
	}
	return v, err
}

// withoutComment cuts a comment off, which begins with # at the start or after a space. ok is false where the # may as well
// be in quotes.
func withoutComment(s string) (text string, ok bool) {
	at := strings.Index(" "+s, " #")
	if at < 0 {
		return s, true
	}
	return s[:at], strings.Count(s[:at], `"`)+strings.Count(s[:at], "'") == 0 || closed(s[:at])
}

// closed reports whether a text ends with what begins in quotes at its start, or after a key or in an item.
func closed(s string) bool {
	s = strings.TrimRight(s, " ")
	for strings.HasPrefix(s, "- ") {
		s = strings.TrimLeft(s[2:], " ")
	}
	if _, value, ok := cutKey(s); ok && value != "" {
		s = value
	}
	return s != "" && (s[0] == '"' || s[0] == '\'') && closing(s) == len(s)
}

func isItem(text string) bool { return text == "-" || strings.HasPrefix(text, "- ") }

// block reads what is indented so far.
func (r *yamlReader) block(indent int) (any, error) {
	if r.depth++; r.depth > deepest {
		return nil, r.fail("it is nested too deep")
	}
	defer func() { r.depth-- }()
	if isItem(r.lines[0].text) {
		return r.sequence(indent)
	}
	if _, _, ok := cutKey(r.lines[0].text); ok {
		return r.mapping(indent)
	}
	v, err := r.scalar(r.lines[0].text)
	r.lines = r.lines[1:]
	return v, err
}

func (r *yamlReader) sequence(indent int) (any, error) {
	out := []any{}
	for len(r.lines) > 0 && r.lines[0].indent == indent && isItem(r.lines[0].text) {
		rest := strings.TrimLeft(r.lines[0].text[1:], " ")
		var v any
		var err error
		if rest == "" {
			v, err = r.below(indent, false)
		} else {
			l := &r.lines[0]
			l.indent, l.text = indent+len(l.text)-len(rest), rest
			v, err = r.block(l.indent)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (r *yamlReader) mapping(indent int) (any, error) {
	out := map[string]any{}
	for len(r.lines) > 0 && r.lines[0].indent == indent && !isItem(r.lines[0].text) {
		key, rest, ok := cutKey(r.lines[0].text)
		if !ok {
			return nil, r.fail("%q is no key", r.lines[0].text)
		}
		k, err := r.scalar(key)
		name, isText := k.(string)
		if err != nil || !isText {
			return nil, r.fail("%q is no key", key)
		}
		if _, twice := out[name]; twice {
			return nil, r.fail("the key %q is there twice", name)
		}
		var v any
		if rest == "" {
			v, err = r.below(indent, true)
		} else {
			v, err = r.scalar(rest)
			r.lines = r.lines[1:]
		}
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

// below reads the value of the present line, which is on the next ones; a sequence may be as far left as its key.
func (r *yamlReader) below(indent int, items bool) (any, error) {
	r.lines = r.lines[1:]
	if len(r.lines) == 0 || r.lines[0].indent < indent || r.lines[0].indent == indent && !(items && isItem(r.lines[0].text)) {
		return nil, nil
	}
	return r.block(r.lines[0].indent)
}

// cutKey splits "key: value"; the value may be missing.
func cutKey(s string) (key, value string, ok bool) {
	if s == "" {
		return "", "", false
	}
	end := 0
	if s[0] == '"' || s[0] == '\'' {
		if end = closing(s); end < 0 {
			return "", "", false
		}
	} else if strings.IndexByte("[{&*!|>%@`?", s[0]) >= 0 {
		return "", "", false
	}
	for i := end; i < len(s); i++ {
		if s[i] == ':' && (i+1 == len(s) || s[i+1] == ' ') {
			return strings.TrimRight(s[:i], " "), strings.TrimLeft(s[i+1:], " "), true
		}
	}
	return "", "", false
}

// closing is where the quoted text that begins a string ends, behind its quote; -1 when it does not.
func closing(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[0] == '"' && s[i] == '\\':
			i++
		case s[i] == s[0] && s[0] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == s[0]:
			return i + 1
		}
	}
	return -1
}

// scalar reads a value that stands on one line.
func (r *yamlReader) scalar(s string) (any, error) {
	v, rest, err := r.flow(s, "")
	if err == nil && rest != "" {
		err = r.fail("%q after a value", rest)
	}
	return v, err
}

// flow reads a value at the start of a string; inside of a flow collection it ends at one of the characters in ends.
func (r *yamlReader) flow(s, ends string) (v any, rest string, err error) {
	if r.depth++; r.depth > deepest {
		return nil, "", r.fail("it is nested too deep")
	}
	defer func() { r.depth-- }()
	switch {
	case s == "":
		return nil, "", nil
	case s[0] == '"' || s[0] == '\'':
		end := closing(s)
		if end < 0 {
			return nil, "", r.fail("a quote is not closed")
		}
		text := strings.ReplaceAll(s[1:end-1], "''", "'")
		if s[0] == '"' {
			text = ""
			if err := json.Unmarshal([]byte(s[:end]), &text); err != nil {
				return nil, "", r.fail("%s: %v", s[:end], err)
			}
		}
		return text, strings.TrimLeft(s[end:], " "), nil
	case s[0] == '[' || s[0] == '{':
		return r.collection(s)
	case strings.IndexByte("&*!|>%@`?,]}#", s[0]) >= 0 || s == "-" || strings.HasPrefix(s, "- ") || s[0] == ':':
		return nil, "", r.fail("%q is not read here: write it as JSON", s)
	}
	end := len(s)
	if ends != "" {
		if i := strings.IndexAny(s, ends+"[]{}"); i >= 0 {
			end = i
		}
	} else if strings.Contains(s, ": ") || strings.HasSuffix(s, ":") {
		return nil, "", r.fail("%q has a second key", s)
	}
	v, err = r.plain(strings.TrimRight(s[:end], " "))
	return v, s[end:], err
}

// collection reads [a, b] or {a: b}.
func (r *yamlReader) collection(s string) (any, string, error) {
	list, table, end := []any{}, map[string]any{}, byte(']')
	isTable := s[0] == '{'
	if isTable {
		end = '}'
	}
	s = strings.TrimLeft(s[1:], " ")
	for s != "" && s[0] != end {
		key := ""
		if isTable {
			var ok bool
			if key, s, ok = cutKey(s); !ok || key == "" || strings.ContainsAny(key, ",[]{}\"'") {
				return nil, "", r.fail("%q is no key", s)
			}
			if v, err := r.plain(key); err != nil {
				return nil, "", err
			} else if _, isText := v.(string); !isText {
				return nil, "", r.fail("%q is no key", key)
			}
			if _, twice := table[key]; twice {
				return nil, "", r.fail("the key %q is there twice", key)
			}
		}
		v, rest, err := r.flow(s, ",")
		if err != nil {
			return nil, "", err
		}
		if text, ok := v.(string); ok && len(s) > 0 && s[0] != '"' && s[0] != '\'' && strings.ContainsRune(text, ':') && strings.Contains(text+" ", ": ") {
			return nil, "", r.fail("%q is not read here: write it as JSON", text)
		}
		list, table[key] = append(list, v), v
		switch s = strings.TrimLeft(rest, " "); {
		case s != "" && s[0] == ',':
			if s = strings.TrimLeft(s[1:], " "); s != "" && s[0] == ',' {
				return nil, "", r.fail("nothing between two commas")
			}
		case s == "" || s[0] != end:
			return nil, "", r.fail("%q in a list", rest)
		}
	}
	if s == "" {
		return nil, "", r.fail("a bracket is not closed on its line")
	}
	if s = strings.TrimLeft(s[1:], " "); isTable {
		return table, s, nil
	}
	return list, s, nil
}

// plain gives a scalar without quotes its type.
func (r *yamlReader) plain(s string) (any, error) {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil, nil
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	}
	bare := strings.TrimLeft(s[:1], "+-") + s[1:]
	if bare != "" && (bare[0] >= '0' && bare[0] <= '9' || bare[0] == '.') {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && (s == "0" || s[0] >= '1' && s[0] <= '9' || s[0] == '-' && len(s) > 1 && s[1] >= '1') {
			return n, nil
		}
		isText := strings.Count(s, ".") > 1 && strings.Trim(s, "0123456789.") == "" || strings.Contains(s, ":") && !strings.Contains(s, "-") // a version, an address
		if strings.Trim(s, "0123456789.-+_xXoObBeEinfINFaANabcdABCDF:T") == "" && !isText {
			return nil, r.fail("the number %s is not read here: a decimal one, or in quotes if it is a text", s)
		}
	}
	return s, nil
}
