package createtable

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// normalJSON returns a document as MySQL writes it once it has been in a column of type JSON:
// keys in the order of their lengths and then of their bytes, a space after commas and colons.
func normalJSON(text string) (string, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("something follows the JSON document")
	}
	var b strings.Builder
	writeJSON(&b, v)
	return b.String(), nil
}

func writeJSON(b *strings.Builder, v any) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		b.WriteByte('{')
		for i, k := range keys {
			b.WriteString(choose(i > 0, ", ", ""))
			writeJSONText(b, k)
			b.WriteString(": ")
			writeJSON(b, v[k])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			b.WriteString(choose(i > 0, ", ", ""))
			writeJSON(b, e)
		}
		b.WriteByte(']')
	case string:
		writeJSONText(b, v)
	case json.Number:
		b.WriteString(jsonNumber(v.String()))
	case bool:
		b.WriteString(choose(v, "true", "false"))
	default:
		b.WriteString("null")
	}
}

var jsonEscapes = strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

func writeJSONText(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range jsonEscapes.Replace(s) {
		if r < 0x20 {
			fmt.Fprintf(b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// jsonNumber returns an integer of 64 bits as it is, and other numbers as the shortest that
// gives the same double.
func jsonNumber(s string) string {
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		return s
	}
	if _, err := strconv.ParseUint(s, 10, 64); err == nil {
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	if a := math.Abs(f); a != 0 && (a < 1e-15 || a >= 1e15) {
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
		n, _ := strconv.Atoi(exponent)
		return mantissa + "e" + strconv.Itoa(n)
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	return choose(strings.Contains(text, "."), text, text+".0")
}
