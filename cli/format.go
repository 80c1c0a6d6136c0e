//go:build linux

package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/docker/go-units"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// column is one column of a list: its head, and the template that fills it.
type column struct{ head, field string }

// table prints rows in Docker's ways: as a table, with --format as "table TEMPLATE", TEMPLATE or json, with -q the ids.
type table struct {
	columns []column
	heads   map[string]string // of fields that are in no column
}

func (t *table) print(out io.Writer, format string, rows []any) error {
	w := bufio.NewWriter(out)
	if err := t.write(w, format, rows); err != nil {
		_ = w.Flush()
		return err
	}
	return w.Flush()
}

func (t *table) write(w io.Writer, format string, rows []any) error {
	switch {
	case format == "json":
		for _, row := range rows {
			b, err := json.Marshal(row)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\n", b)
		}
		return nil
	case format == "" || format == "table":
		var fields []string
		for _, c := range t.columns {
			fields = append(fields, "{{."+c.field+"}}")
		}
		return t.printTable(w, strings.Join(fields, "\t"), rows)
	case strings.HasPrefix(format, "table "):
		return t.printTable(w, strings.TrimSpace(strings.TrimPrefix(format, "table ")), rows)
	}
	tmpl, err := parseLine(format)
	if err != nil {
		return err
	}
	return execute(w, tmpl, rows)
}

func execute(w io.Writer, tmpl *template.Template, rows []any) error {
	for _, row := range rows {
		if err := tmpl.Execute(w, row); err != nil {
			return errs.New(errs.Invalid, "template parsing error", err)
		}
		fmt.Fprintln(w)
	}
	return nil
}

func (t *table) printTable(w io.Writer, format string, rows []any) error {
	tmpl, err := parseLine(format)
	if err != nil {
		return err
	}
	heads := map[string]string{}
	for field, head := range t.heads {
		heads[field] = head
	}
	for _, c := range t.columns {
		heads[c.field] = c.head
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	var head strings.Builder
	if err := tmpl.Execute(&head, headRow(heads)); err != nil {
		return errs.New(errs.Invalid, "template parsing error", err)
	}
	fmt.Fprintln(tw, head.String())
	if err := execute(tw, tmpl, rows); err != nil {
		return err
	}
	return tw.Flush()
}

// headRow gives each field the head of its column, also in the arguments of functions.
type headRow map[string]string

// Label is the head of a column of one label.
func (h headRow) Label(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[i+1:]
	}
	return name
}

// parseLine reads a template for a line of a list, in which \t and \n may be written so.
func parseLine(format string) (*template.Template, error) {
	return parseTemplate(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format))
}

func parseTemplate(text string) (*template.Template, error) {
	tmpl, err := template.New("").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			err := e.Encode(v)
			return strings.TrimSuffix(b.String(), "\n"), err
		},
		"split": strings.Split, "lower": strings.ToLower, "upper": strings.ToUpper, "title": strings.Title, //nolint:staticcheck // Docker's word
		"join": func(list any, sep string) string {
			var parts []string
			v := reflect.ValueOf(list)
			for i := 0; v.Kind() == reflect.Slice && i < v.Len(); i++ {
				parts = append(parts, fmt.Sprint(v.Index(i).Interface()))
			}
			return strings.Join(parts, sep)
		},
		"pad": func(s string, prefix, suffix int) string {
			return strings.Repeat(" ", prefix) + s + strings.Repeat(" ", suffix)
		},
		"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
		"println":  fmt.Sprintln, "print": fmt.Sprint,
	}).Parse(text)
	if err != nil {
		return nil, errs.New(errs.Invalid, "template parsing error", err)
	}
	return tmpl, nil
}

// inspected prints what inspect found: an array of JSON, or each by a template.
func inspected(w io.Writer, format string, found []any) error {
	if format == "" || format == "json" {
		if found == nil {
			found = []any{}
		}
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "    ")
		if format == "json" {
			e.SetIndent("", "")
		}
		return e.Encode(found)
	}
	tmpl, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, f := range found {
		var b strings.Builder
		err := tmpl.Execute(&b, f)
		if err != nil { // a name of the JSON that Go's fields do not have
			var raw any
			text, merr := json.Marshal(f)
			d := json.NewDecoder(bytes.NewReader(text))
			d.UseNumber() // or a large one would be shown as 1.048576e+08
			if merr == nil && d.Decode(&raw) == nil {
				b.Reset()
				err = tmpl.Option("missingkey=error").Execute(&b, raw)
			}
		}
		if err != nil {
			return errs.New(errs.Invalid, "template parsing error", err)
		}
		fmt.Fprintln(w, b.String())
	}
	return nil
}

// parseFilters reads --filter values, key=value.
func parseFilters(list []string) (engine.Filters, error) {
	out := engine.Filters{}
	for _, f := range list {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, invalid("invalid argument %q for \"-f, --filter\" flag: invalid filter '%s'", f, f)
		}
		key = strings.ToLower(strings.TrimSpace(key))
		out[key] = append(out[key], strings.TrimSpace(value))
	}
	return out, nil
}

// confirm asks a question; anything but y is no.
func (a *app) confirm(text string) bool {
	fmt.Fprintf(a.out, "%s\nAre you sure you want to continue? [y/N] ", text)
	answer, _ := bufio.NewReader(a.in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
