// Package innodbtest makes what InnoDB writes, for tests: pages and tablespaces, records,
// mini-transactions and blocks of redo logs.
//
// It lays out bytes by the formats' descriptions and computes checksums itself:
// nothing here calls the code that hb reads, checks or recovers them with, so that a
// test can compare that code with the bytes made here. From package innodb come
// types, and the meaning of a tablespace's flags.
package innodbtest

import (
	"encoding/binary"
	"hash/crc32"
)

var be = binary.BigEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
