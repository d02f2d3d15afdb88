package xbtest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
)

// What sample archives have: the LSN where the redo begins, and the pages.
const (
	SampleStart = innodb.LSN(50000)
	SamplePage  = 4 << 10
)

// sampleSeed is where random content comes from.
const sampleSeed = 20261124

// pages is a tablespace whose pages hold about what rows do.
func pages(id innodb.SpaceID, n int) []byte {
	rng := rand.New(rand.NewPCG(sampleSeed, uint64(id)))
	return innodbtest.Tablespace{ID: id, Flags: innodbtest.Full4K, Pages: n, LSN: SampleStart - 1000, Fill: func(page []byte, no innodb.PageNo) {
		if no != 0 && no != 2 { // one page is empty
			for at := 120; at < SamplePage*3/4; at += 24 {
				copy(page[at:], fmt.Sprintf("row %06d", at*int(no)))
				binary.BigEndian.PutUint64(page[at+10:], rng.Uint64())
			}
		}
		if id == 0 && no == innodb.TrxSysPage {
			innodbtest.TrxSys(page)
		}
	}}.Bytes()
}

// sampleRedo is redo of some mini-transactions, each of which writes to a page
// of table 7, and the LSN that it reaches.
func sampleRedo() (log []byte, last innodb.LSN) {
	made := innodbtest.Log{Form: innodbtest.MariaDB108, Start: SampleStart}
	made.MTR(innodbtest.MariaDBFile(byte(mariadbredo.FileModify)<<4, 7, "./db/t.ibd"))
	for i := range uint32(300) {
		made.MTR(innodbtest.MariaDBWrite(7, 3+i%4, 200, fmt.Sprintf("change%04d", i)))
	}
	head := mariadbredo.BackupHead(mariadbredo.Format108, mariadbredo.Checkpoint{LSN: SampleStart, End: SampleStart, Number: 4}, "test")
	return append(head, made.Bytes()...), made.End()
}

// SampleFiles are the files of a small backup that hb apply takes, in an order
// in which they could come.
func SampleFiles() (names []string, contents map[string][]byte, last innodb.LSN, err error) {
	redo, last := sampleRedo()
	checkpoints, err := (&metadata.Checkpoints{BackupType: metadata.FullBackup, ToLSN: SampleStart, LastLSN: last}).Marshal()
	if err != nil {
		return nil, nil, 0, err
	}
	var cnf metadata.MyCnf
	cnf.Set("innodb_data_file_path", "ibdata1:64K:autoextend")
	cnf.Set("innodb_page_size", "4096")
	cnfText, err := cnf.Marshal()
	if err != nil {
		return nil, nil, 0, err
	}
	contents = map[string][]byte{
		"ib_logfile0":            redo,
		"ibdata1":                pages(0, 16),
		"db/t.ibd":               pages(7, 40),
		"db/u.ibd":               pages(8, 25),
		"db/t.frm":               []byte(strings.Repeat("a definition; ", 40)),
		"db/m.MYD":               []byte(strings.Repeat("row of MyISAM\x00", 200)),
		"db/empty.MYD":           nil,
		"db2/db.opt":             []byte("default-character-set=utf8mb4\n"),
		"backup-my.cnf":          cnfText,
		"xtrabackup_binlog_info": []byte("binlog.000003\t1234\t0-1-77\n"),
		"xtrabackup_checkpoints": checkpoints,
	}
	names = []string{"ib_logfile0", "db/t.ibd", "ibdata1", "db/u.ibd", "db/t.frm", "db/m.MYD", "db/empty.MYD", "db2/db.opt"}
	return names, contents, last, nil
}

// Sample is the archive of that backup: pages, redo and other files in turn, then
// what describes them.
func Sample() ([]byte, error) {
	names, contents, last, err := SampleFiles()
	if err != nil {
		return nil, err
	}
	a := NewArchiver(SamplePage, SampleStart, last)
	a.Interleave(names, contents, 2*SamplePage)
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if !slices.Contains(names, name) {
			a.Put(name, contents[name])
		}
	}
	return a.Finish()
}
