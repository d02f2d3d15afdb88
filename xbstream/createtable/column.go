package createtable

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/sdi"
)

func (s *statement) column(c *sdi.Column) error {
	typ, err := columnType(c)
	if err != nil {
		return err
	}
	s.add("  ", quoteName(c.Name), " ", typ)
	if err := s.charset(c); err != nil {
		return err
	}
	if c.Generation != "" {
		s.add(" GENERATED ALWAYS AS (", modern(c.Generation), ")", choose(c.Virtual, " VIRTUAL", " STORED"))
	}
	if policy := c.Options["masking_policy"]; policy != "" {
		s.add(" MASKING POLICY ", quoteName(policy))
	}
	switch {
	case !c.Nullable:
		s.add(" NOT NULL")
	case c.Type == sdi.ColumnTimestamp || c.Type == sdi.ColumnTimestamp2:
		s.add(" NULL")
	}
	if _, ok := c.Options["not_secondary"]; ok {
		s.add(" NOT SECONDARY")
	}
	if c.Type == sdi.ColumnGeometry && !c.NoSRS {
		s.add(" /*!80003 SRID ", number(c.SRS), " */")
	}
	s.add(storageClauses[c.Options["storage"]], formatClauses[c.Options["column_format"]])
	def, err := defaultOf(c)
	if err != nil {
		return err
	}
	s.add(def)
	if c.OnUpdate != "" {
		s.add(" ON UPDATE CURRENT_TIMESTAMP", fraction(c))
	}
	if c.AutoInc {
		s.add(" AUTO_INCREMENT")
	}
	if c.Hidden == sdi.HiddenUser {
		s.add(" /*!80023 INVISIBLE */")
	}
	if c.Comment != "" {
		s.add(" COMMENT ", quoteText(c.Comment))
	}
	return s.attributes(c.Attribute, c.SecondaryAttribute, " ")
}

// Clauses by the values of options. (enum ha_storage_media and column_format_type)
var (
	storageClauses = map[string]string{"1": " /*!50606 STORAGE DISK */", "2": " /*!50606 STORAGE MEMORY */"}
	formatClauses  = map[string]string{"1": " /*!50606 COLUMN_FORMAT FIXED */", "2": " /*!50606 COLUMN_FORMAT DYNAMIC */"}
)

// attributes adds ENGINE_ATTRIBUTE and SECONDARY_ENGINE_ATTRIBUTE.
func (s *statement) attributes(engine, secondary, is string) error {
	for _, a := range []struct{ name, value string }{{"ENGINE_ATTRIBUTE", engine}, {"SECONDARY_ENGINE_ATTRIBUTE", secondary}} {
		if a.value == "" {
			continue
		}
		value, err := normalJSON(a.value)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		s.add(" /*!80021 ", a.name, is, quoteText(value), " */")
	}
	return nil
}

func choose(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// typeNames are the names of types that have nothing else but perhaps UNSIGNED and ZEROFILL.
var typeNames = map[int]string{
	sdi.ColumnTiny: "tinyint", sdi.ColumnShort: "smallint", sdi.ColumnLong: "int", sdi.ColumnLongLong: "bigint", sdi.ColumnInt24: "mediumint",
	sdi.ColumnFloat: "float", sdi.ColumnDouble: "double", sdi.ColumnDecimal: "decimal", sdi.ColumnNewDecimal: "decimal",
	sdi.ColumnYear: "year", sdi.ColumnDate: "date", sdi.ColumnNewDate: "date", sdi.ColumnJSON: "json",
	sdi.ColumnTimestamp: "timestamp", sdi.ColumnDatetime: "datetime", sdi.ColumnTime: "time",
	sdi.ColumnTimestamp2: "timestamp", sdi.ColumnDatetime2: "datetime", sdi.ColumnTime2: "time",
}

// geometryNames are by the option geom_type. (Field::geometry_type)
var geometryNames = []string{"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection"}

// blobNames are those of types without and with a character set.
var blobNames = map[int][2]string{
	sdi.ColumnTinyBlob: {"tinyblob", "tinytext"}, sdi.ColumnBlob: {"blob", "text"},
	sdi.ColumnMediumBlob: {"mediumblob", "mediumtext"}, sdi.ColumnLongBlob: {"longblob", "longtext"},
}

// columnType returns the type as servers write it.
func columnType(c *sdi.Column) (string, error) {
	binary := c.Collation == collationBinary
	switch c.Type {
	case sdi.ColumnTiny, sdi.ColumnShort, sdi.ColumnLong, sdi.ColumnLongLong, sdi.ColumnInt24, sdi.ColumnFloat, sdi.ColumnDouble, sdi.ColumnDecimal, sdi.ColumnNewDecimal:
		return typeNames[c.Type] + digits(c) + choose(c.Unsigned, " unsigned", "") + choose(c.Zerofill, " zerofill", ""), nil
	case sdi.ColumnYear, sdi.ColumnDate, sdi.ColumnNewDate, sdi.ColumnJSON, sdi.ColumnTimestamp, sdi.ColumnDatetime, sdi.ColumnTime:
		return typeNames[c.Type], nil
	case sdi.ColumnTimestamp2, sdi.ColumnDatetime2, sdi.ColumnTime2:
		return typeNames[c.Type] + fraction(c), nil
	case sdi.ColumnBit:
		return fmt.Sprintf("bit(%d)", c.Length), nil
	case sdi.ColumnVarchar, sdi.ColumnVarString:
		return choose(binary, "varbinary", "varchar") + characters(c), nil
	case sdi.ColumnString:
		return choose(binary, "binary", "char") + characters(c), nil
	case sdi.ColumnTinyBlob, sdi.ColumnBlob, sdi.ColumnMediumBlob, sdi.ColumnLongBlob:
		return choose(binary, blobNames[c.Type][0], blobNames[c.Type][1]), nil
	case sdi.ColumnVector:
		return fmt.Sprintf("vector(%d)", c.Length/4), nil
	case sdi.ColumnGeometry:
		if n, ok := c.Options.Number("geom_type"); ok && n < uint64(len(geometryNames)) {
			return geometryNames[n], nil
		}
	case sdi.ColumnEnum, sdi.ColumnSet:
		return elements(c)
	}
	return "", fmt.Errorf("type %d with options %v is not known to hb", c.Type, c.Options)
}

// digits returns what stands in parentheses after the name of a number's type.
func digits(c *sdi.Column) string {
	switch c.Type {
	case sdi.ColumnNewDecimal, sdi.ColumnDecimal:
		return fmt.Sprintf("(%d,%d)", c.Precision, c.Scale)
	case sdi.ColumnFloat, sdi.ColumnDouble:
		if c.NoScale {
			return ""
		}
		return fmt.Sprintf("(%d,%d)", c.Length, c.Scale)
	}
	if c.Zerofill || c.Type == sdi.ColumnTiny && c.Length == 1 && !c.Unsigned {
		return fmt.Sprintf("(%d)", c.Length)
	}
	return ""
}

// fraction returns the digits of a time after the point, in parentheses.
func fraction(c *sdi.Column) string {
	if c.Fraction == 0 {
		return ""
	}
	return fmt.Sprintf("(%d)", c.Fraction)
}

// characters returns the length of a string in parentheses.
func characters(c *sdi.Column) string { return fmt.Sprintf("(%d)", c.Length/width(c.Collation)) }

// width is how many bytes a character has at most.
func width(collation uint64) uint32 {
	_, most := cfg.CharWidth(uint32(collation))
	return max(most, 1)
}

// elements returns the type of ENUM and SET. The text of the document is right but for
// characters that utf8mb3 does not have.
func elements(c *sdi.Column) (string, error) {
	name := choose(c.Type == sdi.ColumnEnum, "enum", "set")
	if c.Collation != collationBinary && !lossy(c.TypeText, c) {
		if !strings.HasPrefix(c.TypeText, name+"(") {
			return "", fmt.Errorf("type %.100q is not that of %s", c.TypeText, name)
		}
		return c.TypeText, nil
	}
	col, err := collationOf(c.Collation)
	if err != nil {
		return "", err
	}
	list := make([]string, len(c.Elements))
	for i, e := range c.Elements {
		switch text, ok := decode(e.Name, col.charset()); {
		case ok:
			list[i] = quoteText(text)
		case c.Collation == collationBinary:
			list[i] = "x'" + hex.EncodeToString(e.Name) + "'"
		default:
			return "", fmt.Errorf("hb cannot convert the values of %s from character set %s", name, col.charset())
		}
	}
	return name + "(" + strings.Join(list, ",") + ")", nil
}

// lossy reports whether a text has question marks that elements do not have.
func lossy(text string, c *sdi.Column) bool {
	marks := 0
	for _, e := range c.Elements {
		marks += questionMarks(e.Name, c.Collation)
	}
	return strings.Count(text, "?") != marks
}

// questionMarks counts them in a text of a character set. No multi-byte character set has one
// as a part of a character, but those whose characters have two or four bytes.
func questionMarks(b []byte, collation uint64) (n int) {
	least, _ := cfg.CharWidth(uint32(collation))
	step := max(int(least), 1)
	for len(b) >= step {
		u, high := b[step-1], b[:step-1]
		if col := collations[collation]; col.charset() == "utf16le" {
			u, high = b[0], b[1:step]
		}
		if u == '?' && strings.Trim(string(high), "\x00") == "" {
			n++
		}
		b = b[step:]
	}
	return n
}

// decode returns a text of a character set that needs no table to convert it.
func decode(b []byte, charset string) (string, bool) {
	be := binary.BigEndian
	switch charset {
	case "utf8mb4":
		return string(b), utf8.Valid(b)
	case "utf8mb3", "binary":
		return string(b), validUTF8MB3(b)
	case "ucs2", "utf16", "utf16le":
		if len(b)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(b)/2)
		for i := range units {
			if units[i] = be.Uint16(b[2*i:]); charset == "utf16le" {
				units[i] = units[i]>>8 | units[i]<<8
			}
		}
		return string(utf16.Decode(units)), true
	case "utf32":
		if len(b)%4 != 0 {
			return "", false
		}
		var text []rune
		for ; len(b) > 0; b = b[4:] {
			text = append(text, rune(be.Uint32(b)))
		}
		return string(text), true
	}
	return "", false
}

// validUTF8MB3 reports whether bytes are text in utf8mb3 as servers see it: characters have
// three bytes at most.
func validUTF8MB3(b []byte) bool {
	follows := func(n int) bool {
		for i := 1; i <= n; i++ {
			if i >= len(b) || b[i]&0xC0 != 0x80 {
				return false
			}
		}
		return true
	}
	for len(b) > 0 {
		n := 0
		switch c := b[0]; {
		case c < 0x80:
		case c >= 0xC2 && c < 0xE0 && follows(1):
			n = 1
		case c >= 0xE0 && c < 0xF0 && follows(2) && (c > 0xE0 || b[1] >= 0xA0) && (c != 0xED || b[1] < 0xA0):
			n = 2
		default:
			return false
		}
		b = b[n+1:]
	}
	return true
}

// charset adds the character set and the collation, where they are not the table's or were
// given.
func (s *statement) charset(c *sdi.Column) error {
	switch c.Type {
	case sdi.ColumnEnum, sdi.ColumnSet:
	case sdi.ColumnVarchar, sdi.ColumnVarString, sdi.ColumnString, sdi.ColumnTinyBlob, sdi.ColumnBlob, sdi.ColumnMediumBlob, sdi.ColumnLongBlob:
		if c.Collation == collationBinary {
			return nil
		}
	default:
		return nil
	}
	col, err := collationOf(c.Collation)
	if err != nil {
		return err
	}
	if c.Collation != s.def.Collation || c.ExplicitCollation {
		s.add(" CHARACTER SET ", col.charset())
	}
	if !col.primary || c.ExplicitCollation || c.Collation == collationDefault && s.def.Collation != collationDefault {
		s.add(" COLLATE ", col.name)
	}
	return nil
}

// defaultOf returns the DEFAULT clause. (print_default_clause)
func defaultOf(c *sdi.Column) (string, error) {
	const clause = " DEFAULT "
	switch expression := c.DefaultExpression; {
	case c.Generation != "" || c.NoDefault || c.AutoInc:
		return "", nil
	case strings.HasPrefix(expression, "CURRENT_TIMESTAMP"):
		return clause + "CURRENT_TIMESTAMP" + fraction(c), nil
	case expression != "":
		return clause + "(" + modern(expression) + ")", nil
	}
	switch c.Type {
	case sdi.ColumnTinyBlob, sdi.ColumnBlob, sdi.ColumnMediumBlob, sdi.ColumnLongBlob:
		return "", nil
	}
	if c.DefaultNull {
		return choose(c.Nullable, clause+"NULL", ""), nil
	}
	switch c.Type {
	case sdi.ColumnBit:
		return clause + c.DefaultText, nil
	case sdi.ColumnTimestamp2:
		text, err := timestamp(c)
		return clause + quoteText(text), err
	case sdi.ColumnVarchar, sdi.ColumnVarString, sdi.ColumnString, sdi.ColumnEnum, sdi.ColumnSet:
		text, err := stringDefault(c)
		return clause + text, err
	}
	return clause + quoteText(c.DefaultText), nil
}

// timestamp returns the default of a TIMESTAMP in UTC; the document has it in the time zone of
// the session that made the column.
func timestamp(c *sdi.Column) (string, error) {
	size := int(c.Fraction+1) / 2
	if c.Fraction > 6 || len(c.Default) < 4+size {
		return "", fmt.Errorf("the default of a TIMESTAMP with %d digits has %d bytes", c.Fraction, len(c.Default))
	}
	seconds, parts := binary.BigEndian.Uint32(c.Default), uint64(0)
	for _, b := range c.Default[4 : 4+size] {
		parts = parts<<8 | uint64(b)
	}
	text := "0000-00-00 00:00:00"
	if seconds != 0 || parts != 0 {
		text = time.Unix(int64(seconds), 0).UTC().Format(time.DateTime)
	}
	if c.Fraction > 0 { // an odd number of digits is kept as the next even one
		text += "." + fmt.Sprintf("%0*d", 2*size, parts)[:c.Fraction]
	}
	return text, nil
}

// stringDefault returns the default of a string: a text, or hexadecimal if it is not one in
// utf8mb3.
func stringDefault(c *sdi.Column) (string, error) {
	value, err := stringValue(c)
	if err != nil {
		return "", err
	}
	text := c.DefaultText
	if c.Collation == collationBinary {
		if text = string(value); !validUTF8MB3(value) {
			return fmt.Sprintf("0x%X", value), nil
		}
	} else if strings.Count(text, "?") != questionMarks(value, c.Collation) {
		return fmt.Sprintf("0x%X", value), nil
	}
	return quoteText(text), nil
}

// stringValue returns the default of a string in its character set, from the record.
func stringValue(c *sdi.Column) ([]byte, error) {
	little, n := uint64(0), 0
	switch c.Type {
	case sdi.ColumnString:
		return trimSpaces(c.Default, c.Collation), nil
	case sdi.ColumnEnum, sdi.ColumnSet:
		n = len(c.Default)
	default:
		n = 1
		if c.Length > 255 {
			n = 2
		}
	}
	if n > 8 || len(c.Default) < n {
		return nil, fmt.Errorf("a default has %d bytes", len(c.Default))
	}
	for i := range n {
		little |= uint64(c.Default[i]) << (8 * i)
	}
	switch {
	case c.Type == sdi.ColumnEnum && little >= 1 && little <= uint64(len(c.Elements)):
		return c.Elements[little-1].Name, nil
	case c.Type == sdi.ColumnEnum:
		return nil, nil
	case c.Type == sdi.ColumnSet:
		return members(c, little), nil
	case little > uint64(len(c.Default)-n):
		return nil, fmt.Errorf("a default of %d bytes has a length of %d", len(c.Default), little)
	}
	return c.Default[n:][:little], nil
}

// members joins those of a SET.
func members(c *sdi.Column, bits uint64) (value []byte) {
	least, _ := cfg.CharWidth(uint32(c.Collation))
	comma := make([]byte, max(least, 1))
	comma[len(comma)-1] = ','
	if collations[c.Collation].charset() == "utf16le" {
		comma = []byte{',', 0}
	}
	for i, e := range c.Elements {
		if i < 64 && bits>>i&1 != 0 {
			value = append(append(value, comma...), e.Name...)
		}
	}
	return bytes.TrimPrefix(value, comma)
}

// trimSpaces cuts off the spaces that fill a CHAR; a BINARY keeps all of its bytes.
func trimSpaces(b []byte, collation uint64) []byte {
	if collation == collationBinary {
		return b
	}
	least, _ := cfg.CharWidth(uint32(collation))
	step := max(int(least), 1)
	space := make([]byte, step)
	space[step-1] = ' '
	if collations[collation].charset() == "utf16le" {
		space = []byte{' ', 0}
	}
	for len(b) >= step && string(b[len(b)-step:]) == string(space) {
		b = b[:len(b)-step]
	}
	return b
}

// modern returns an expression as MySQL 9.7 writes it: it knows the character set that servers
// before 8.0.30 called utf8 by the name utf8mb3.
func modern(expression string) string {
	const was, is, introducer = "utf8", "utf8mb3", "_"
	var out strings.Builder
	last := "" // word
	for rest := expression; rest != ""; {
		n := tokenLength(rest)
		token := rest[:n]
		collation, hasCollation := strings.CutPrefix(token, was+"_")
		switch {
		case token == introducer+was:
			out.WriteString(introducer + is)
		case token == was && (last == "charset" || last == "using"):
			out.WriteString(is)
		case hasCollation && last == "collate":
			out.WriteString(is + "_" + collation)
		default:
			out.WriteString(token)
		}
		if token != " " {
			last = token
		}
		rest = rest[n:]
	}
	return out.String()
}
