package export

import (
	"fmt"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/sdi"
)

// TestChoose: of several documents that of the first partition is the table's, wherever its
// file's name comes.
func TestChoose(t *testing.T) {
	table := func(spaces ...int) *sdi.Table {
		def := &sdi.Table{}
		for i, s := range spaces {
			part := sdi.Partition{Indexes: []sdi.PartitionIndex{{Private: sdi.Properties{"space_id": fmt.Sprint(s)}}}}
			if i%2 == 1 { // as a subpartition
				part = sdi.Partition{Subpartitions: []sdi.Partition{part}}
			}
			def.Partitions = append(def.Partitions, part)
		}
		return def
	}
	whole, stale, other := table(7, 5, 6), table(4, 5), table(6, 7)
	for _, c := range []struct {
		found []described
		want  *sdi.Table
		bad   bool
	}{
		{nil, nil, false},
		{[]described{{space: 9, def: &sdi.Table{}}}, nil, false}, // not partitioned
		{[]described{{space: 5, def: stale}, {space: 7, def: whole}}, whole, false},
		{[]described{{space: 7, def: whole}, {space: 5, def: stale}}, whole, false},
		{[]described{{space: 5, def: stale}, {space: 6, def: whole}}, nil, true},
		{[]described{{space: 7, def: whole}, {space: 6, def: other}}, nil, true},
	} {
		got, err := choose(c.found)
		if (err != nil) != c.bad || c.want != nil && got.def != c.want || len(c.found) == 1 && got.space != innodb.SpaceID(9) {
			t.Errorf("%v: %+v, %v", c.found, got, err)
		}
	}
}
