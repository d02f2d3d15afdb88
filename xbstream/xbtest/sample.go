package xbtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
)

// sampleSeed is where random content comes from.
const sampleSeed = 20261124

// Pages is a tablespace whose pages hold about what rows do.
func Pages(id innodb.SpaceID, pages int) []byte {
	space, err := innodb.ParseFlags(SampleFlags)
	if err != nil {
		panic(err) // they are constant
	}
	rng := rand.New(rand.NewPCG(sampleSeed, uint64(id)))
	var file []byte
	for no := range pages {
		page := make([]byte, SamplePage)
		binary.BigEndian.PutUint32(page[innodb.OffsetPageNo:], uint32(no))
		binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], uint32(id))
		if no == 0 {
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPSpace:], uint32(id))
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPSize:], uint32(pages))
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPFlags:], SampleFlags)
		} else if no != 2 { // one page is empty
			for at := 120; at < SamplePage*3/4; at += 24 {
				copy(page[at:], fmt.Sprintf("row %06d", at*no))
				binary.BigEndian.PutUint64(page[at+10:], rng.Uint64())
			}
		}
		if id == 0 && no == int(innodb.TrxSysPage) { // no rollback segments
			binary.BigEndian.PutUint16(page[innodb.OffsetType:], uint16(innodb.TypeTrxSys))
			copy(page[56:], bytes.Repeat([]byte{0xFF}, 8*128))
		}
		space.SetLSN(page, SampleStart-1000)
		space.Stamp(page, innodb.ChecksumFullCRC32)
		file = append(file, page...)
	}
	return file
}

// sampleRedo is redo of some mini-transactions, each of which writes to a page
// of table 7, and the LSN that it reaches.
func sampleRedo() (log []byte, last innodb.LSN) {
	log = mariadbredo.BackupHead(mariadbredo.Format108, mariadbredo.Checkpoint{LSN: SampleStart, End: SampleStart, Number: 4}, "test")
	last = SampleStart
	mtr := func(body ...byte) {
		log = append(log, body...)
		log = binary.BigEndian.AppendUint32(append(log, 1), innodb.CRC32C(body))
		last += innodb.LSN(len(body) + 5)
	}
	const name = "./db/t.ibd"
	mtr(append([]byte{0xB0 | byte(2+len(name)), 7, 0}, name...)...) // FILE_MODIFY
	for i := range 300 {
		text := fmt.Sprintf("change%04d", i)
		mtr(append([]byte{0x30 | byte(4+len(text)), 7, byte(3 + i%4), 0x80, 200 - 0x80}, text...)...) // WRITE
	}
	return log, last
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
		"ibdata1":                Pages(0, 16),
		"db/t.ibd":               Pages(7, 40),
		"db/u.ibd":               Pages(8, 25),
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
	a := NewArchiver(SampleStart, last)
	rest := maps.Clone(contents)
	open := make(map[string]*xbstream.File)
	for len(open) < len(names) || slices.ContainsFunc(names, func(n string) bool { return len(rest[n]) > 0 }) {
		for _, name := range names {
			data := rest[name]
			if open[name] == nil {
				open[name] = a.Create(name)
			} else if len(data) == 0 {
				continue
			}
			n := min(len(data), 2*SamplePage)
			a.Write(open[name], data[:n])
			if rest[name] = data[n:]; n == len(data) {
				a.End(open[name])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if open[name] == nil {
			a.Put(name, contents[name])
		}
	}
	return a.Finish()
}
