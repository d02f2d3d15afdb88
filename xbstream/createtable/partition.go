package createtable

import (
	"cmp"
	"fmt"
	"strings"

	"hb/xbstream/innodb/sdi"
)

// A partitioning is a way to make partitions.
type partitioning struct {
	by      string // HASH, KEY, RANGE, LIST
	linear  bool
	old     bool // ALGORITHM = 1 of KEY
	columns bool // COLUMNS of RANGE and LIST
}

// partitionings are by sdi.Table.PartitionType. (sql/dd/types/table.h, enum_partition_type;
// 11 and 12 are NDB's own)
var partitionings = map[int]partitioning{
	1: {by: hash}, 2: {by: key, old: true}, 3: {by: key},
	4: {by: hash, linear: true}, 5: {by: key, linear: true, old: true}, 6: {by: key, linear: true},
	7: {by: rangeBy}, 8: {by: list}, 9: {by: rangeBy, columns: true}, 10: {by: list, columns: true},
}

// subpartitionings are by sdi.Table.SubpartitionType. (enum_subpartition_type)
var subpartitionings = map[int]partitioning{
	1: {by: hash}, 2: {by: key, old: true}, 3: {by: key},
	4: {by: hash, linear: true}, 5: {by: key, linear: true, old: true}, 6: {by: key, linear: true},
}

const hash, key, rangeBy, list = "HASH", "KEY", "RANGE", "LIST"

// Values of sdi.Table.DefaultPartitions.
const (
	partitionsNamed   = 1
	partitionsDefault = 2
	partitionsCounted = 3
)

// partitions adds the PARTITION BY clause. (generate_partition_syntax)
func (s *statement) partitions() error {
	t := s.def
	p, ok := partitionings[t.PartitionType]
	if !ok {
		return fmt.Errorf("hb does not know partitions of type %d", t.PartitionType)
	}
	sub, hasSub := subpartitionings[t.SubpartitionType]
	if !hasSub && t.SubpartitionType != 0 {
		return fmt.Errorf("hb does not know subpartitions of type %d", t.SubpartitionType)
	}
	version := "/*!50100"
	// TO_SECONDS came with 5.5.
	if p.columns || strings.Contains(t.PartitionExpression+t.SubpartitionExpression, "to_seconds(") {
		version = "/*!50500"
	}
	s.add("\n", version, " PARTITION BY ", partitionBy(p, t.PartitionExpression, version))
	s.count("\nPARTITIONS ", t.DefaultPartitions, len(t.Partitions))
	if hasSub {
		s.add("\nSUBPARTITION BY ", partitionBy(sub, t.SubpartitionExpression, version))
		if len(t.Partitions) > 0 {
			s.count("\nSUBPARTITIONS ", t.DefaultSubpartitions, len(t.Partitions[0].Subpartitions))
		}
	}
	if t.DefaultPartitions == partitionsNamed {
		if err := s.partitionList(p, hasSub && t.DefaultSubpartitions == partitionsNamed); err != nil {
			return err
		}
	}
	s.add(" */")
	return nil
}

// count adds the number of partitions if only that was given.
func (s *statement) count(clause string, given, n int) {
	if given == partitionsCounted {
		s.add(fmt.Sprint(clause, n))
	}
}

// partitionBy returns the way to make partitions, and the expression or the columns.
func partitionBy(p partitioning, expression, version string) string {
	by := choose(p.linear, "LINEAR ", "") + p.by + " "
	switch {
	case p.by == key && p.old:
		by += "*/ /*!50611 ALGORITHM = 1 */ " + version + " "
	case p.columns:
		by += " COLUMNS"
	}
	if p.by == key || p.columns {
		return by + "(" + strings.Join(columnList(expression), ",") + ")"
	}
	return by + "(" + modern(expression) + ")"
}

// columnList returns the names of columns: a semicolon after each but the last, a backslash
// before semicolons and backslashes in names. (set_field_list)
func columnList(expression string) []string {
	var names []string
	var name strings.Builder
	for i := 0; i < len(expression); i++ {
		switch c := expression[i]; {
		case c == '\\' && i+1 < len(expression):
			i++
			name.WriteByte(expression[i])
		case c == ';':
			names = append(names, plainName(name.String()))
			name.Reset()
		default:
			name.WriteByte(c)
		}
	}
	if name.Len() > 0 {
		names = append(names, plainName(name.String()))
	}
	return names
}

// partitionList adds the partitions with their names.
func (s *statement) partitionList(p partitioning, withSubs bool) error {
	separator := "\n("
	for i := range s.def.Partitions {
		part := &s.def.Partitions[i]
		values, err := partitionValues(p, part)
		if err != nil {
			return err
		}
		s.add(separator, "PARTITION ", plainName(part.Name), values)
		separator = ",\n "
		if !withSubs {
			s.partitionOptions(part)
			continue
		}
		between := "\n ("
		for j := range part.Subpartitions {
			sub := &part.Subpartitions[j]
			s.add(between, "SUBPARTITION ", plainName(sub.Name))
			s.partitionOptions(sub)
			between = ",\n  "
			if s.out.Len() > maxStatement {
				return errLong
			}
		}
		s.add(")")
	}
	s.add(")")
	return nil
}

// partitionValues returns the VALUES clause.
func partitionValues(p partitioning, part *sdi.Partition) (string, error) {
	switch {
	case p.by == rangeBy && !p.columns:
		if len(part.Values) != 1 {
			return "", fmt.Errorf("partition %s has %d values", part.Name, len(part.Values))
		}
		if part.Values[0].Max {
			return " VALUES LESS THAN MAXVALUE", nil
		}
		return " VALUES LESS THAN (" + part.Values[0].Text + ")", nil
	case p.by == rangeBy:
		return " VALUES LESS THAN (" + strings.Join(valueTexts(part.Values), ",") + ")", nil
	case p.by == list && !p.columns:
		return " VALUES IN (" + strings.Join(nullFirst(part.Values), ",") + ")", nil
	case p.by == list:
		return " VALUES IN (" + strings.Join(valueLists(part.Values), ",") + ")", nil
	}
	return "", nil
}

func valueTexts(values []sdi.PartitionValue) []string {
	texts := make([]string, len(values))
	for i, v := range values {
		switch {
		case v.Max:
			texts[i] = "MAXVALUE"
		case v.Null:
			texts[i] = "NULL"
		default:
			texts[i] = v.Text
		}
	}
	return texts
}

// nullFirst are the values of a partition by LIST, with NULL first, wherever it was.
func nullFirst(values []sdi.PartitionValue) []string {
	texts, has := []string{"NULL"}, false
	for _, v := range values {
		if v.Null || v.Text == "" {
			has = true
		} else {
			texts = append(texts, v.Text)
		}
	}
	if !has {
		return texts[1:]
	}
	return texts
}

// valueLists are the values of a partition by LIST COLUMNS, in parentheses if there are
// several columns.
func valueLists(values []sdi.PartitionValue) (lists []string) {
	texts := valueTexts(values)
	several := false
	for _, v := range values {
		several = several || v.Column > 0
	}
	if !several {
		return texts
	}
	for i := 0; i < len(values); {
		j := i + 1
		for j < len(values) && values[j].List == values[i].List {
			j++
		}
		lists = append(lists, "("+strings.Join(texts[i:j], ",")+")")
		i = j
	}
	return lists
}

// partitionOptions adds those of a partition. (add_partition_options)
func (s *statement) partitionOptions(p *sdi.Partition) {
	s.add(" ")
	if s.partitionSpaces() {
		s.add("TABLESPACE = ", quoteName(cmp.Or(partitionSpace(p), filePerTable)), " ")
	}
	for _, o := range []struct{ key, clause string }{{"nodegroup_id", "NODEGROUP"}, {"max_rows", "MAX_ROWS"}, {"min_rows", "MIN_ROWS"}} {
		if v := p.Options[o.key]; v != "" && v != no {
			s.add(o.clause, " = ", v, " ")
		}
	}
	if dir := p.Options["data_file_name"]; dir != "" {
		s.add("DATA DIRECTORY = '", partEscapes.Replace(strings.TrimSuffix(dir, "/")+"/"), "' ")
	}
	if comment, _, _ := strings.Cut(p.Comment, "\x00"); comment != "" {
		s.add("COMMENT = '", partEscapes.Replace(comment), "' ")
	}
	s.add("ENGINE = ", s.def.Engine)
}

// partitionSpace is the tablespace that was given for a partition; empty: none was.
func partitionSpace(p *sdi.Partition) string { return cmp.Or(p.Tablespace, p.Options["tablespace"]) }

// partitionSpaces reports whether the tablespaces of all partitions are shown: those of one
// were given. (ha_innopart::update_create_info)
func (s *statement) partitionSpaces() bool {
	if s.spaces == nil {
		has := false
		for i := range s.def.Partitions {
			p := &s.def.Partitions[i]
			has = has || partitionSpace(p) != ""
			for j := range p.Subpartitions {
				has = has || partitionSpace(&p.Subpartitions[j]) != ""
			}
		}
		s.spaces = &has
	}
	return *s.spaces
}

// partEscapes: in the options of partitions quotes have a backslash before them, and line
// breaks none, unlike elsewhere.
var partEscapes = strings.NewReplacer(`\`, `\\`, "\x1a", `\Z`, "'", `\'`)
