package datadir

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"hb/source/mysqld"
	"hb/stream/disk"
)

// Every table has a definition, its .frm, that names its storage engine: MariaDB's
// list of tables would show only those that the account may see. Of engines that
// are not known to be copied whole a table may keep its data anywhere.

// knownTypes are the storage engines by their number in a .frm (enum legacy_db_type
// of MariaDB) that hb copies, or that keep no data: MEMORY, MyISAM, MERGE, InnoDB,
// EXAMPLE, ARCHIVE, CSV, FEDERATED, BLACKHOLE, PERFORMANCE_SCHEMA, Aria, SEQUENCE.
// A FEDERATED table shows rows of another server.
var knownTypes = map[byte]bool{6: true, 9: true, 10: true, 12: true, 15: true, 16: true, 17: true, 18: true, 19: true, 28: true, 42: true, 44: true}

// knownEngines are those that have no number of their own: their tables show what
// other servers, or other tables, have.
var knownEngines = map[string]bool{"SPHINX": true, "SPIDER": true, "OQGRAPH": true, "FEDERATED": true, "TEST_SQL_DISCOVERY": true}

const (
	frmPartition = 20 // the type of a partitioned table
	frmHead      = 64 // bytes of a .frm's head
	frmMost      = 16 << 20
)

var (
	frmMagic  = []byte{0xFE, 0x01}
	frmEngine = regexp.MustCompile(`ENGINE = ([0-9A-Za-z_]+)`) // of a partition
)

// Engines reads each definition once.
type Engines struct {
	disk disk.System
	seen map[string]File
}

// NewEngines returns engines that have looked into no definition yet.
func NewEngines(system disk.System) *Engines { return &Engines{system, make(map[string]File)} }

// Check refuses tables of engines that hb does not copy, by the definitions among
// files that it has not seen as they are.
func (e *Engines) Check(files []File) error {
	for _, info := range files {
		if filepath.Ext(info.Name) != ".frm" || info.SameContent(e.seen[info.Name]) {
			continue
		}
		engine, err := unknownEngine(e.disk, info.Path)
		if err != nil {
			return fmt.Errorf("looking for the storage engine in %s: %w", info.Path, err)
		}
		if engine != "" {
			return &mysqld.UnsupportedFeatureError{Feature: "the storage engine " + engine, Detail: "table " + strings.TrimSuffix(info.Name, ".frm")}
		}
		e.seen[info.Name] = info
	}
	return nil
}

// unknownEngine names the storage engine of a table's definition; "" for one whose
// tables hb copies, for a view, and for a file that is gone.
func unknownEngine(system disk.System, path string) (string, error) {
	head, err := ReadAll(system, path, frmHead)
	if err != nil || len(head) < frmHead || string(head[:2]) != string(frmMagic) {
		return "", IgnoreGone(err) // a view has text
	}
	kind := head[3]
	partitioned := kind == frmPartition
	if partitioned {
		kind = head[61]
	}
	if knownTypes[kind] {
		return "", nil
	}
	frm, err := ReadAll(system, path, frmMost)
	if err != nil {
		return "", IgnoreGone(err)
	}
	name := engineName(frm)
	if m := frmEngine.FindSubmatch(frm); partitioned && m != nil {
		name = string(m[1])
	}
	if knownEngines[strings.ToUpper(name)] {
		return "", nil
	}
	if name == "" {
		name = fmt.Sprintf("number %d", kind)
	}
	return name, nil
}

// engineName is the name of the storage engine in a table's definition; "" if it
// has none. (sql/table.cc of MariaDB, init_from_binary_frm_image)
func engineName(frm []byte) string {
	keys := int64(binary.LittleEndian.Uint16(frm[14:]))
	if keys == 0xFFFF {
		keys = int64(binary.LittleEndian.Uint32(frm[47:]))
	}
	at := int64(binary.LittleEndian.Uint16(frm[6:])) + keys + int64(binary.LittleEndian.Uint16(frm[16:]))
	rest := frm[min(at, int64(len(frm))):]
	_, rest = cutText(rest) // the connection string
	name, _ := cutText(rest)
	return string(name)
}

// cutText takes a text with its length, two bytes, before it; nil if it is cut off.
func cutText(b []byte) (text, rest []byte) {
	if len(b) < 2 || len(b)-2 < int(binary.LittleEndian.Uint16(b)) {
		return nil, nil
	}
	n := 2 + int(binary.LittleEndian.Uint16(b))
	return b[2:n], b[n:]
}
