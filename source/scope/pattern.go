package scope

import (
	"fmt"
	"regexp"
	"strings"
)

// A PatternError says that a regular expression of --tables or --tables-exclude is wrong,
// or does not mean the same everywhere.
type PatternError struct{ Option, Pattern, What string }

func (e *PatternError) Error() string {
	return fmt.Sprintf("%s: %q: %s; a pattern is an extended regular expression (POSIX) that is looked for in db.table: write [.] for a dot, ^ and $ for the ends",
		e.Option, e.Pattern, e.What)
}

// compile compiles a pattern. Those of mariadb-backup and XtraBackup are for regcomp and
// REG_EXTENDED of the C library, and hb's are for Go's package regexp (RE2): hb takes what
// means the same in both, and refuses the rest. What the two find does not matter, only
// whether; so it does not matter that POSIX finds the longest.
func compile(option, pattern string) (*regexp.Regexp, error) {
	text, what := translate(pattern)
	if what == "" {
		re, err := regexp.Compile(text)
		if err == nil {
			return re, nil
		}
		what = strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	}
	return nil, &PatternError{option, pattern, what}
}

// translate returns the pattern for Go, or what is wrong with it.
func translate(p string) (out, what string) {
	var b strings.Builder
	quantified := true // nothing is there to repeat
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c < ' ' || c >= 0x7f:
			return "", "names of files have no such character: write it as they do (@0023), or a dot"
		case c == '\\':
			if i++; i == len(p) {
				return "", "it ends with a backslash"
			}
			if isWord(p[i]) {
				return "", fmt.Sprintf("\\%c does not mean the same in all tools: write a bracket expression, as [[:digit:]] for \\d", p[i])
			}
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
			quantified = false
		case c == '[':
			set, n, what := bracket(p[i:])
			if what != "" {
				return "", what
			}
			b.WriteString(set)
			i += n - 1
			quantified = false
		case c == '{' && !isRepeat(p[i:]):
			return "", "{ begins no number of repeats, as in {2} or {2,}: write [{] for the character (a comma separates patterns)"
		case c == '*' || c == '+' || c == '?' || c == '{':
			if quantified {
				return "", fmt.Sprintf("%c repeats nothing, or what is repeated already", c)
			}
			n := 1
			if c == '{' {
				n = strings.IndexByte(p[i:], '}') + 1
			}
			b.WriteString(p[i : i+n])
			i += n - 1
			quantified = true
		default:
			b.WriteByte(c)
			quantified = c == '(' || c == '|' || c == '^' || c == '$'
		}
	}
	return b.String(), ""
}

// isWord reports whether a backslash gives a character a meaning of its own, in POSIX,
// the C library or Go: letters, digits, and < > ` ' for the C library.
func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("<>`'_", c) >= 0
}

var repeat = regexp.MustCompile(`^\{[0-9]{1,3}(,[0-9]{0,3})?\}`)

// isRepeat reports whether the text begins with a number of repeats.
func isRepeat(p string) bool { return repeat.MatchString(p) }

var class = regexp.MustCompile(`^\[:[a-z]+:\]`)

// bracket translates the bracket expression that p begins with, and returns its length.
// In POSIX a backslash in it is a character like others.
func bracket(p string) (out string, n int, what string) {
	var b strings.Builder
	b.WriteByte('[')
	i := 1
	if i < len(p) && p[i] == '^' {
		b.WriteByte('^')
		i++
	}
	for first := true; i < len(p); first = false {
		switch c := p[i]; {
		case c == ']' && !first:
			b.WriteByte(']')
			return b.String(), i + 1, ""
		case c == '[' && i+1 < len(p) && (p[i+1] == '.' || p[i+1] == '='):
			return "", 0, "[. and [= name characters of a language: write the characters"
		case c == '[' && class.MatchString(p[i:]):
			name := class.FindString(p[i:])
			b.WriteString(name)
			i += len(name)
			continue
		case c == '\\':
			return "", 0, `a backslash in brackets is a character itself, which no name has: write [.] and not [\.]`
		case c < ' ' || c >= 0x7f:
			return "", 0, "names of files have no such character"
		case c == '-' || c == ']' || c == '[' || c == '^':
			if c == '-' && !first && i+1 < len(p) && p[i+1] != ']' {
				b.WriteByte('-') // a range
			} else {
				b.WriteString(`\` + string(c))
			}
		case c == '&' || c == '~' || c == '|':
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
		i++
	}
	return "", 0, "a bracket is not closed"
}
