package hbtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/stream/terminal/usage"
)

// Message is one message as JSON.
type Message map[string]any

// Messages reads what a command that ended wrote with --log-format json: its messages
// must be as hb help messages has them, and in that order.
func Messages(t testing.TB, text string) (list []Message) {
	t.Helper()
	command, ends := "", 0
	for line := range strings.Lines(text) {
		m, err := readObject(line)
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		list = append(list, m)
		event, known := usage.FindEvent(fmt.Sprint(m["event"]))
		if !known {
			t.Errorf("no such event is documented: %s", line)
			continue
		}
		if name, ok := m["command"].(string); ok {
			command = name
		}
		if command != "" && event.Of != "" && !of(event.Of, command) {
			t.Errorf("the event %s is not one of %s: %s", event.Name, command, line)
		}
		for _, problem := range problems(m, slices.Concat(usage.MessageKeys, event.Keys), command) {
			t.Errorf("%s: %s", problem, line)
		}
		if event.Name == "end" {
			ends++
		}
		if (event.Name == "start") != (len(list) == 1) && command != "" && event.Name != "finding" {
			t.Errorf("event %s is message %d", event.Name, len(list))
		}
	}
	if len(list) > 0 && list[0]["event"] != "finding" && (ends != 1 || list[len(list)-1]["event"] != "end") {
		t.Errorf("%d events end, and the last is %v", ends, list[len(list)-1]["event"])
	}
	return list
}

// CheckObject makes sure that a JSON object in a file or in other output has the keys
// that are documented of it.
func CheckObject(t testing.TB, name string, text []byte) {
	t.Helper()
	o, known := usage.FindObject(name)
	m, err := readObject(string(text))
	if !known || err != nil {
		t.Fatalf("%s: documented %v, %v", name, known, err)
	}
	for _, problem := range problems(m, o.Keys, "") {
		t.Errorf("%s: %s in %s", name, problem, text)
	}
}

// readObject reads one object, and refuses a key that is there twice.
func readObject(text string) (Message, error) {
	d := json.NewDecoder(strings.NewReader(text))
	if err := noDuplicates(d); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the object: %w", err)
	}
	var m Message
	d = json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	return m, d.Decode(&m)
}

// noDuplicates reads a value.
func noDuplicates(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') && token != json.Delim('[') {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if token == json.Delim('{') {
			key, err := d.Token()
			if err != nil {
				return err
			}
			if seen[key.(string)] {
				return fmt.Errorf("%s is there twice", key)
			}
			seen[key.(string)] = true
		}
		if err := noDuplicates(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// problems are what an object has that is not documented, or has not and must have.
func problems(m Message, keys []usage.Key, command string) (list []string) {
	for name, value := range m {
		i := slices.IndexFunc(keys, func(k usage.Key) bool { return k.Name == name })
		switch {
		case i < 0:
			list = append(list, "no key "+name+" is documented")
		case command != "" && keys[i].Of != "" && !of(keys[i].Of, command):
			list = append(list, name+" is not a key of "+command)
		default:
			list = append(list, mistyped(value, keys[i].Type, name)...)
		}
	}
	for _, k := range keys {
		if _, there := m[k.Name]; k.Always && !there && (k.Of == "" || of(k.Of, command)) {
			list = append(list, k.Name+" is missing")
		}
	}
	return list
}

func of(commands, command string) bool { return slices.Contains(strings.Fields(commands), command) }

// mistyped says whether a value is not of its documented type.
func mistyped(value any, kind, name string) []string {
	wrong := []string{fmt.Sprintf("%s is %v, want %s", name, value, kind)}
	right := func(ok bool) []string {
		if ok {
			return nil
		}
		return wrong
	}
	switch kind {
	case "string":
		_, ok := value.(string)
		return right(ok)
	case "time":
		_, err := time.Parse(time.RFC3339Nano, fmt.Sprint(value))
		return right(err == nil)
	case "integer":
		n, ok := value.(json.Number)
		return right(ok && !strings.ContainsAny(n.String(), ".eE"))
	case "number":
		n, ok := value.(json.Number)
		f, err := n.Float64()
		return right(ok && err == nil && !math.IsInf(f, 0))
	case "boolean":
		_, ok := value.(bool)
		return right(ok)
	case "strings", "integers":
		return each(value, strings.TrimSuffix(kind, "s"), name, wrong)
	case "map":
		values, ok := value.(map[string]any)
		for _, v := range values {
			ok = ok && len(mistyped(v, "integer", name)) == 0
		}
		return right(ok)
	}
	if item, array := strings.CutPrefix(kind, "array of "); array {
		return each(value, item, name, wrong)
	}
	o, known := usage.FindObject(kind)
	m, ok := value.(map[string]any)
	if !known || !ok {
		return wrong
	}
	return problems(m, o.Keys, "")
}

// each says whether a value is not an array of such items.
func each(value any, kind, name string, wrong []string) (list []string) {
	items, ok := value.([]any)
	if !ok {
		return wrong
	}
	for _, item := range items {
		list = append(list, mistyped(item, kind, name)...)
	}
	return list
}
