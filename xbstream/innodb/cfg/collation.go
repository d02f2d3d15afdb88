package cfg

// widths are the least and most bytes that a character has, by the number of the collation.
// Collations that are not listed have characters of one byte. The numbers are those of
// information_schema.COLLATIONS of MySQL 5.6 to 9.7 and MariaDB 10.5 to 11.8, which a test
// asks.
var widths = []struct {
	from, to    uint32
	least, most uint32
}{
	{1, 1, 1, 2}, {84, 84, 1, 2}, // big5
	{12, 12, 1, 3}, {91, 91, 1, 3}, // ujis
	{13, 13, 1, 2}, {88, 88, 1, 2}, // sjis
	{19, 19, 1, 2}, {85, 85, 1, 2}, // euckr
	{24, 24, 1, 2}, {86, 86, 1, 2}, // gb2312
	{28, 28, 1, 2}, {87, 87, 1, 2}, // gbk
	{95, 96, 1, 2},                                                                     // cp932
	{97, 98, 1, 3},                                                                     // eucjpms
	{33, 33, 1, 3}, {76, 76, 1, 3}, {83, 83, 1, 3}, {192, 223, 1, 3}, {576, 607, 1, 3}, // utf8mb3
	{45, 46, 1, 4}, {224, 247, 1, 4}, {255, 323, 1, 4}, {608, 639, 1, 4}, // utf8mb4
	{248, 250, 1, 4},                                                   // gb18030
	{35, 35, 2, 2}, {90, 90, 2, 2}, {128, 159, 2, 2}, {640, 671, 2, 2}, // ucs2
	{54, 56, 2, 4}, {62, 62, 2, 4}, {101, 124, 2, 4}, {672, 703, 2, 4}, // utf16, utf16le
	{60, 61, 4, 4}, {160, 191, 4, 4}, {736, 767, 4, 4}, // utf32
	// MariaDB's UCA 14.0.0: 256 numbers for each character set.
	{2048, 2303, 1, 3}, {2304, 2559, 1, 4}, {2560, 2815, 2, 2}, {2816, 3071, 2, 4}, {3072, 3327, 4, 4},
}

// noPad is what MariaDB adds to the number of a collation for the one that does not ignore
// spaces at the end.
const noPad = 1024

// CharWidth returns the least and most bytes of a character, by the number of the collation;
// both are 0 for collation 0, which columns without characters have.
func CharWidth(collation uint32) (least, most uint32) {
	if collation == 0 {
		return 0, 0
	}
	if collation >= noPad && collation < 2*noPad {
		collation -= noPad
	}
	for _, w := range widths {
		if w.from <= collation && collation <= w.to {
			return w.least, w.most
		}
	}
	return 1, 1
}
