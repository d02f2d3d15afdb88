package locks

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQueryTypes(t *testing.T) {
	for statement, want := range map[string]string{
		"SELECT 1": "all select", "select\t1": "all select", " /* a */ -- b\n # c\n((Select 1))": "all select", "WITH x AS (SELECT 1) SELECT 1": "all select",
		"INSERT INTO t VALUES (1)": "all update", "update t set a=1": "all update", "REPLACE t VALUES (1)": "all update", "/*!40000 ALTER TABLE t */": "all",
		"LOAD DATA INFILE 'x' INTO TABLE t": "all update", "CREATE TABLE t (a INT)": "all update", "OPTIMIZE TABLE t": "all update",
		"CALL p()": "all", "": "all", "/* not closed SELECT": "all", "-- SELECT": "all", "SELECTED": "all", "DO SLEEP(1)": "all",
	} {
		var got []string
		for _, q := range []QueryType{QueryAll, QueryUpdate, QuerySelect} {
			if q.includes(statement) {
				got = append(got, q.String())
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", statement, got, want)
		}
	}
	for _, name := range []string{"ALL", "update", "Select"} {
		var q QueryType
		if err := q.UnmarshalText([]byte(name)); err != nil || q.String() != strings.ToLower(name) {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
	var q QueryType
	if err := q.UnmarshalText([]byte("ddl")); err == nil || !strings.Contains(err.Error(), "all, update, select") {
		t.Errorf("ddl: %v, %v", q, err)
	}
}

func TestBlockers(t *testing.T) {
	list := []Process{
		{ID: 1, Time: 9 * time.Second, State: "Sending data"},
		{ID: 2, Time: 9 * time.Second, State: "Waiting for table flush"},
		{ID: 3, Time: 9 * time.Second, State: "Waiting for global read lock"},
		{ID: 4, Time: 2 * time.Second, State: "Sending data"},
		{ID: 5, Time: 3 * time.Second, State: "Waiting for master to send event"},
	}
	var ids []uint64
	for _, p := range blockers(list, 3500*time.Millisecond) {
		ids = append(ids, p.ID)
	}
	if !slices.Equal(ids, []uint64{1, 5}) {
		t.Errorf("%v", ids)
	}
}

// TestBlocking: a lock that was released keeps nobody waiting; stages add up.
func TestBlocking(t *testing.T) {
	tables := &Lock{lockConn{held: true, times: []Timing{{Blocks: BlocksOthers}}}}
	released := &Lock{lockConn{times: []Timing{{Blocks: BlocksCommits | BlocksDDL}}}}
	stages := &Stages{lockConn: lockConn{held: true, times: []Timing{{Blocks: StageStart.blocks()}, {Blocks: StageBlockDDL.blocks()}}}}
	for i, c := range []struct {
		by   Held
		want Blocks
	}{{tables, BlocksOthers}, {released, 0}, {stages, BlocksOthers | BlocksDDL}} {
		if got := c.by.Blocking(); got != c.want {
			t.Errorf("%d: %b, want %b", i, got, c.want)
		}
	}
}
