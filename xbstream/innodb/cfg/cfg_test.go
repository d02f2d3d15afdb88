package cfg_test

import (
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/sdi"
)

// FuzzFromSDI makes .cfg files of documents.
func FuzzFromSDI(f *testing.F) {
	f.Add([]byte(`{"mysqld_version_id":80036,"dd_object_type":"Table","dd_object":{"name":"t","row_format":2,"options":"compress=lz4;","se_private_data":"instant_col=1;",
		"columns":[{"name":"a","type":4,"hidden":1},{"name":"b","type":16,"is_nullable":true,"char_length":400,"collation_id":255,"se_private_data":"default=6162;"},
		{"name":"c","type":22,"hidden":2,"elements":[{"name":"cA=="}],"se_private_data":"physical_pos=2;version_dropped=1;"}],
		"indexes":[{"name":"PRIMARY","type":1,"se_private_data":"id=1;root=4;","elements":[{"length":4,"order":3,"column_opx":0}]}],
		"partitions":[{"name":"P","indexes":[{"index_opx":0,"se_private_data":"id=2;root=4;"}]}]}}`), uint32(0))
	f.Fuzz(func(t *testing.T, doc []byte, flags uint32) {
		space, err := innodb.ParseFlags(flags)
		if err != nil {
			return
		}
		d := sdi.Document{Type: sdi.TypeTable, JSON: doc}
		table, err := d.Table()
		if err != nil {
			return
		}
		parts := []*sdi.Partition{nil}
		if p := table.Partition("p"); p != nil {
			parts = append(parts, p)
		}
		for _, part := range parts {
			if file, err := cfg.FromSDI(table, part, "d/t", &space, 3, 90704); err == nil {
				_, _ = file.Marshal()
			}
		}
	})
}
