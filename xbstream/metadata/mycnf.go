package metadata

import (
	"fmt"
	"io/fs"
	"strings"
)

// MyCnf is backup-my.cnf: the options that the peers' prepare needs, in a [mysqld]
// group. It is not a copy of the server's own file. The order is kept, and an option
// may come twice (XtraBackup writes innodb_log_checksums in two forms).
type MyCnf struct{ Options []Pair }

// Get returns the last value of an option; "-" and "_" are the same in its
// name, as for the servers.
func (c *MyCnf) Get(name string) (string, bool) {
	for i := len(c.Options) - 1; i >= 0; i-- {
		if optionName(c.Options[i].Key) == optionName(name) {
			return c.Options[i].Value, true
		}
	}
	return "", false
}

// Set appends an option.
func (c *MyCnf) Set(name, value string) {
	c.Options = append(c.Options, Pair{name, value})
}

func optionName(s string) string { return strings.ReplaceAll(s, "-", "_") }

const myCnfHead = "# These options were taken from the server by hb, for preparing this backup.\n\n[mysqld]\n"

// Marshal returns the file's content. An option without a value is written
// without "=".
func (c *MyCnf) Marshal() ([]byte, error) {
	var b strings.Builder
	b.WriteString(myCnfHead)
	for _, o := range c.Options {
		if strings.ContainsAny(o.Key, "=[]#; \t\r\n\x00") || o.Key == "" || strings.ContainsRune(o.Value, 0) {
			return nil, fmt.Errorf("%s: option %q = %q cannot be written", MyCnfName, o.Key, o.Value)
		}
		b.WriteString(o.Key)
		if o.Value != "" {
			b.WriteString("=" + quoteOption(o.Value))
		}
		b.WriteByte('\n')
	}
	if b.Len() > MaxTextFile {
		return nil, fmt.Errorf("%s would have %d bytes, more than %d", MyCnfName, b.Len(), MaxTextFile)
	}
	return []byte(b.String()), nil
}

// The escapes that the servers' option files know besides \s for a space.
var (
	optionEscaper   = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\r", "\\r", "\t", "\\t", "\b", "\\b")
	optionUnescaper = strings.NewReplacer("\\\\", "\\", "\\n", "\n", "\\r", "\r", "\\t", "\t", "\\b", "\b", "\\s", " ")
)

// quoteOption escapes a value, and puts it in quotes where the servers would
// otherwise cut it: at a "#" and at spaces on either side.
func quoteOption(v string) string {
	escaped := optionEscaper.Replace(v)
	if strings.ContainsAny(v, "#'\"") || strings.TrimSpace(v) != v {
		if strings.Contains(v, "\"") {
			return "'" + escaped + "'"
		}
		return "\"" + escaped + "\""
	}
	return escaped
}

func unquoteOption(v string) string {
	v = strings.TrimSpace(v)
	if n := len(v); n >= 2 && (v[0] == '"' || v[0] == '\'') && v[n-1] == v[0] {
		v = v[1 : n-1]
	} else if i := strings.Index(v, " #"); i >= 0 {
		v = strings.TrimSpace(v[:i])
	}
	return optionUnescaper.Replace(v)
}

// UnmarshalMyCnf reads a file's content: the options of its [mysqld] groups.
func UnmarshalMyCnf(text []byte) (*MyCnf, error) {
	if len(text) > MaxTextFile {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", MyCnfName, len(text), MaxTextFile)
	}
	c := new(MyCnf)
	group := ""
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			name, _, ok := strings.Cut(line[1:], "]")
			if !ok {
				return nil, fmt.Errorf("%s: group %.60q has no end", MyCnfName, line)
			}
			group = strings.TrimSpace(name)
		case group == "":
			return nil, fmt.Errorf("%s: option %.60q stands before any group", MyCnfName, line)
		case group == "mysqld":
			key, value, _ := strings.Cut(line, "=")
			if key = strings.TrimSpace(key); key == "" {
				return nil, fmt.Errorf("%s: line %.60q has no option", MyCnfName, line)
			}
			c.Options = append(c.Options, Pair{key, unquoteOption(value)})
		}
	}
	return c, nil
}

// ReadMyCnf reads backup-my.cnf in dir. The error is fs.ErrNotExist if there
// is none.
func ReadMyCnf(dir fs.FS) (*MyCnf, error) {
	text, err := readText(dir, MyCnfName)
	if err != nil {
		return nil, err
	}
	return UnmarshalMyCnf(text)
}
