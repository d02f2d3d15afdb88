package delta

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hb/xbstream/innodb"
)

// Meta is P.meta: lines of "key = value", of which the order means nothing.
type Meta struct {
	PageSize int            // page_size: bytes of a page in the file
	ZipSize  int            // zip_size: the same of ROW_FORMAT=COMPRESSED, else 0
	Space    innodb.SpaceID // space_id
	// Flags is space_flags, FSP_SPACE_FLAGS: mariadb-backup neither writes nor reads it,
	// XtraBackup does since 2.4.16.
	Flags    uint32
	HasFlags bool
}

// MaxMeta bounds the file in bytes.
const MaxMeta = 4096

// Marshal returns the file's content. After zip_size there is a blank at the end of the
// line, as mariadb-backup 10.5 to 11.8 write it.
func (m Meta) Marshal() []byte {
	text := fmt.Appendf(nil, "page_size = %d\nzip_size = %d \nspace_id = %d\n", m.PageSize, m.ZipSize, m.Space)
	if m.HasFlags {
		text = fmt.Appendf(text, "space_flags = %d\n", m.Flags)
	}
	return text
}

// ParseMeta reads a file's content. Only page_size must be there.
func ParseMeta(text []byte) (m Meta, err error) {
	if len(text) > MaxMeta {
		return Meta{}, fmt.Errorf("it has %d bytes, more than %d", len(text), MaxMeta)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !ok || seen[key] {
			return Meta{}, fmt.Errorf("line %.60q is not expected", line)
		}
		seen[key] = true
		if err := m.set(key, strings.TrimSpace(value)); err != nil {
			return Meta{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	if !seen["page_size"] {
		return Meta{}, errors.New("it has no page_size")
	}
	if err := CheckPageSize(m.PageSize); err != nil {
		return Meta{}, err
	}
	if m.ZipSize != 0 && m.ZipSize != m.PageSize {
		return Meta{}, fmt.Errorf("page_size is %d and zip_size %d", m.PageSize, m.ZipSize)
	}
	return m, nil
}

// set takes a value. Keys that hb does not know are left out.
func (m *Meta) set(key, value string) error {
	switch key {
	case "page_size", "zip_size", "space_id", "space_flags":
	default:
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return err
	}
	switch key {
	case "page_size":
		m.PageSize = int(n)
	case "zip_size":
		m.ZipSize = int(n)
	case "space_id":
		m.Space = innodb.SpaceID(n)
	case "space_flags":
		m.Flags, m.HasFlags = uint32(n), true
	}
	return nil
}
