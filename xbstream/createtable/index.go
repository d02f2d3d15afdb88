package createtable

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"hb/xbstream/innodb/sdi"
)

// Types of indexes, as sdi.Index.Type has them.
const (
	indexPrimary  = 1
	indexUnique   = 2
	indexMultiple = 3
	indexFullText = 4
	indexSpatial  = 5
)

var indexNames = map[int]string{indexPrimary: "UNIQUE KEY ", indexUnique: "UNIQUE KEY ", indexMultiple: "KEY ", indexFullText: "FULLTEXT KEY ", indexSpatial: "SPATIAL KEY "}

const primary = "PRIMARY"

// algorithms are those that can be given, by sdi.Index.Algorithm.
var algorithms = map[int]string{2: " USING BTREE", 3: " USING RTREE", 4: " USING HASH"}

func (s *statement) indexes() error {
	first := true
	for n := range s.def.Indexes {
		i := &s.def.Indexes[n]
		if i.Hidden {
			continue
		}
		name, ok := indexNames[i.Type]
		if !ok {
			return fmt.Errorf("index %s is of type %d, which hb does not know", i.Name, i.Type)
		}
		s.add(",\n  ")
		if first && i.Name == primary {
			s.add("PRIMARY KEY")
		} else {
			s.add(name, quoteName(i.Name))
		}
		first = false
		s.add(" (")
		s.indexElements(i)
		s.add(")")
		if err := s.indexOptions(i); err != nil {
			return fmt.Errorf("index %s: %w", i.Name, err)
		}
		if s.out.Len() > maxStatement {
			return errLong
		}
	}
	return nil
}

func (s *statement) indexElements(i *sdi.Index) {
	separator := ""
	for _, e := range i.Elements {
		if e.Hidden || s.out.Len() > maxStatement {
			continue
		}
		c := &s.def.Columns[e.Column]
		s.add(separator)
		separator = ","
		if c.Hidden == sdi.HiddenServer {
			s.add("(", modern(c.Generation), ")")
		} else {
			s.add(quoteName(c.Name))
		}
		if i.Type != indexFullText && i.Type != indexSpatial && c.IsPrefix(e.Length) {
			s.add(fmt.Sprintf("(%d)", e.Length/width(c.Collation)))
		}
		if e.Order == 3 {
			s.add(" DESC")
		}
	}
}

// indexOptions adds what follows the columns. (store_key_options)
func (s *statement) indexOptions(i *sdi.Index) error {
	if i.ExplicitAlgorithm {
		s.add(algorithms[i.Algorithm])
	}
	if size, ok := i.Options["block_size"]; ok && size != s.def.Options["key_block_size"] {
		s.add(" KEY_BLOCK_SIZE=", size)
	}
	if i.Comment != "" {
		s.add(" COMMENT ", quoteText(i.Comment))
	}
	if !i.Visible {
		s.add(" /*!80000 INVISIBLE */")
	}
	if err := s.attributes(i.Attribute, i.SecondaryAttribute, " "); err != nil {
		return err
	}
	if parser := i.Options["parser_name"]; parser != "" {
		s.add(" /*!50100 WITH PARSER ", quoteName(parser), " */ ")
	}
	return nil
}

// rules are those of foreign keys, by sdi.Foreign.OnDelete.
var rules = map[int]string{1: "", 2: " RESTRICT", 3: " CASCADE", 4: " SET NULL", 5: " SET DEFAULT"}

func (s *statement) foreignKeys() error {
	for _, f := range slices.SortedFunc(slices.Values(s.def.ForeignKeys), func(a, b sdi.Foreign) int {
		return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	}) {
		from, to := make([]string, len(f.Elements)), make([]string, len(f.Elements))
		for i, e := range f.Elements {
			from[i], to[i] = quoteName(s.def.Columns[e.Column].Name), quoteName(e.Referenced)
		}
		s.add(",\n  CONSTRAINT ", quoteName(f.Name), " FOREIGN KEY (", strings.Join(from, ", "), ") REFERENCES ")
		if f.Schema != s.def.Schema {
			s.add(quoteName(f.Schema), ".")
		}
		s.add(quoteName(f.Table), " (", strings.Join(to, ", "), ")")
		for _, r := range []struct {
			event string
			rule  int
		}{{" ON DELETE", f.OnDelete}, {" ON UPDATE", f.OnUpdate}} {
			rule, ok := rules[r.rule]
			switch {
			case !ok:
				return fmt.Errorf("foreign key %s has%s rule %d, which hb does not know", f.Name, r.event, r.rule)
			case rule != "":
				s.add(r.event, rule)
			}
		}
		if s.out.Len() > maxStatement {
			return errLong
		}
	}
	return nil
}

func (s *statement) checks() error {
	for _, c := range slices.SortedFunc(slices.Values(s.def.Checks), func(a, b sdi.Check) int {
		return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	}) {
		s.add(",\n  CONSTRAINT ", quoteName(c.Name), " CHECK (", modern(string(c.Clause)), ")")
		switch c.State {
		case 1:
			s.add(" /*!80016 NOT ENFORCED */")
		case 2:
		default:
			return fmt.Errorf("constraint %s is in state %d, which hb does not know", c.Name, c.State)
		}
		if s.out.Len() > maxStatement {
			return errLong
		}
	}
	return nil
}
