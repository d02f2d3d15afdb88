package export_test

import (
	"fmt"
	"strings"

	"hb/source/mysqld/mysqldtest"
)

// tableKinds are tables of many kinds, by their names: the statements that make them,
// where %s is "t.<name>". Conditions are by server.
func tableKinds(root *mysqldtest.Root) map[string][]string {
	kinds := map[string][]string{}
	add := func(when bool, name string, statements ...string) {
		if !when {
			return
		}
		for i, q := range statements {
			statements[i] = strings.ReplaceAll(q, "%s", "t."+name)
		}
		kinds[name] = statements
	}
	maria := root.MariaDB()
	virtual := maria || root.AtLeast(5, 7)
	eight := !maria && root.AtLeast(8, 0)
	commonKinds(add)
	for _, size := range []int{8, 4, 1} {
		add(true, fmt.Sprintf("zip%d", size), fmt.Sprintf("CREATE TABLE %%s (a INT PRIMARY KEY, b VARCHAR(50), c TEXT, KEY(b(20))) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=%d", size))
	}
	add(virtual, "generated", `CREATE TABLE %s (a INT PRIMARY KEY, b INT, v INT AS (b+1) VIRTUAL, w VARCHAR(50) AS (CONCAT('x',b)) VIRTUAL,
		s INT AS (b*2) STORED, c CHAR(3) NOT NULL, KEY(v), KEY(w), KEY(s), KEY vs (v,s,b))`)
	add(virtual, "spatial", "CREATE TABLE %s (a INT PRIMARY KEY, g GEOMETRY NOT NULL, p POINT NOT NULL, q POLYGON, SPATIAL KEY(g), SPATIAL KEY(p))")
	add(virtual, "json", "CREATE TABLE %s (a INT PRIMARY KEY, j JSON, k JSON)")
	add(virtual, "part", `CREATE TABLE %s (a INT, b VARCHAR(30), c INT AS (a+1) STORED, PRIMARY KEY(a), KEY(b)) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), PARTITION Px VALUES LESS THAN MAXVALUE)`)
	add(virtual, "subpart", `CREATE TABLE %s (a INT, b VARCHAR(30)) PARTITION BY RANGE (a) SUBPARTITION BY HASH(a) SUBPARTITIONS 2 (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)`)
	mysqlKinds(eight, add)
	mariaKinds(root, add)
	return kinds
}

func commonKinds(add func(bool, string, ...string)) {
	add(true, "numbers", `CREATE TABLE %s (a TINYINT, b SMALLINT UNSIGNED NOT NULL, c MEDIUMINT, d INT NOT NULL, e BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		f BOOL, g BIT(1), h BIT(13) NOT NULL, i DECIMAL(10,3), j DECIMAL(65,30) UNSIGNED NOT NULL, k FLOAT, l DOUBLE NOT NULL, m FLOAT UNSIGNED, n YEAR NOT NULL,
		o DATE, p TIME, q TIME(3) NOT NULL, r DATETIME, s DATETIME(6) NOT NULL, u TIMESTAMP NULL, v TIMESTAMP(2) NULL)`,
		"INSERT INTO %s (b,d,h,j,l,n,q,s) VALUES (1,1,b'1',1,1,2000,'10:00:00','2020-01-01'),(1,1,b'1',1,1,2000,'10:00:00','2020-01-01')")
	add(true, "strings", `CREATE TABLE %s (a CHAR(10) NOT NULL, b VARCHAR(100), c VARCHAR(300) NOT NULL, d BINARY(5), e VARBINARY(30) NOT NULL, f VARBINARY(300), g TINYTEXT,
		h TEXT NOT NULL, i MEDIUMTEXT, j LONGTEXT, k TINYBLOB, l BLOB NOT NULL, m MEDIUMBLOB, n LONGBLOB, o ENUM('a','b') NOT NULL, p SET('x','y','z'),
		q CHAR(0), r VARCHAR(0) NOT NULL) DEFAULT CHARSET=latin1`)
	for _, cs := range []string{"utf8", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32", "sjis", "gbk", "big5", "euckr", "ujis", "cp932", "eucjpms", "gb2312", "ascii", "binary", "latin2", "koi8r", "swe7", "tis620"} {
		add(true, "cs_"+cs, "CREATE TABLE %s (a CHAR(7) NOT NULL, b VARCHAR(50), c VARCHAR(90) NOT NULL, d TEXT, e ENUM('a','b'), f LONGTEXT, PRIMARY KEY(a), KEY(b), KEY(d(9)), KEY(c(5),b(6))) DEFAULT CHARSET="+cs)
	}
	add(true, "collations", `CREATE TABLE %s (a CHAR(7) COLLATE utf8_bin NOT NULL, b VARCHAR(50) COLLATE utf8mb4_bin, c VARCHAR(30) COLLATE latin1_bin, d CHAR(3) COLLATE latin1_german2_ci,
		e VARCHAR(9) COLLATE latin1_swedish_ci, f CHAR(4) COLLATE utf8mb4_unicode_ci, g CHAR(4) CHARACTER SET binary, PRIMARY KEY(a), KEY(b), KEY(c), KEY(d,f))`)
	add(true, "keys", `CREATE TABLE %s (a INT NOT NULL, b VARCHAR(20) NOT NULL, c BLOB, d VARCHAR(200), e INT, f CHAR(30) NOT NULL, PRIMARY KEY (b(5),a), UNIQUE u1 (a), UNIQUE u2 (e,a), KEY k1 (c(30)), KEY k2 (d(7),e),
		KEY k3 (d,b), KEY k4 (b), KEY k5 (f(3),e), KEY k6 (b(5)), KEY k7 (e), KEY k8 (c(10),a,d(3)))`)
	add(true, "nokey", "CREATE TABLE %s (a INT, b VARCHAR(20), KEY(a), KEY(b))")
	add(true, "unikey", "CREATE TABLE %s (a INT, b VARCHAR(20) NOT NULL, c INT NOT NULL, KEY(c), UNIQUE un (a), UNIQUE ub (b), UNIQUE uc (c,b))")
	add(true, "ftsid", "CREATE TABLE %s (FTS_DOC_ID BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, a TEXT, UNIQUE KEY FTS_DOC_ID_INDEX (FTS_DOC_ID))")
	add(true, "ftsdropped", "CREATE TABLE %s (a INT PRIMARY KEY, b TEXT, FULLTEXT KEY k (b))", "INSERT INTO %s VALUES (1,'one word'),(2,NULL)", "ALTER TABLE %s DROP KEY k")
	add(true, "foreign", "CREATE TABLE %s (a INT PRIMARY KEY, b INT, CONSTRAINT parent FOREIGN KEY (b) REFERENCES t.keys (a) ON DELETE CASCADE)")
	for _, f := range []string{"REDUNDANT", "COMPACT", "DYNAMIC"} {
		add(true, "f_"+strings.ToLower(f), "CREATE TABLE %s (a VARCHAR(30) CHARACTER SET utf8 NOT NULL, b CHAR(20) CHARACTER SET utf8, c CHAR(20) CHARACTER SET latin1 NOT NULL, d TEXT, e BIGINT NOT NULL, PRIMARY KEY(a,e), KEY(b), KEY(c(5))) ROW_FORMAT="+f)
	}
	add(true, "external", "CREATE TABLE %s (a INT PRIMARY KEY, b LONGBLOB)", "INSERT INTO %s VALUES (1, REPEAT('abcdefg', 30000))")
	add(true, "names", "CREATE TABLE %s (`a b` INT PRIMARY KEY, `ä` VARCHAR(20), `PRIMARY` INT, KEY `k-ü` (`ä`), KEY (`PRIMARY`))")
}

func mysqlKinds(eight bool, add func(bool, string, ...string)) {
	add(eight, "desc8", "CREATE TABLE %s (a INT, b VARCHAR(30) NOT NULL, c INT, PRIMARY KEY(a DESC, b), KEY(c DESC), KEY x (c, b DESC))")
	add(eight, "functional", "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(30), KEY f ((LOWER(b))), KEY g ((a+1) DESC, b), KEY ((a*2)))")
	add(eight, "multivalued", "CREATE TABLE %s (a INT PRIMARY KEY, j JSON, KEY mv ((CAST(j->'$.x' AS UNSIGNED ARRAY))), KEY mc ((CAST(j->'$.y' AS CHAR(10) ARRAY)), a))")
	add(eight, "invisible", "CREATE TABLE %s (a INT PRIMARY KEY, b INT INVISIBLE, c INT, KEY(c) INVISIBLE)")
	add(eight, "checked", "CREATE TABLE %s (a INT PRIMARY KEY CHECK (a > 0), b INT DEFAULT (1+2))")
	add(eight, "vector", "CREATE TABLE %s (a INT PRIMARY KEY, b VECTOR(10), c VECTOR NOT NULL)")
	add(eight, "srs", "CREATE TABLE %s (a INT PRIMARY KEY, g POINT NOT NULL SRID 4326, h POINT SRID 0, SPATIAL KEY(g))")
	add(eight, "instant", "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(30), c INT, d ENUM('p','q') NOT NULL, e DECIMAL(10,2) UNSIGNED, f CHAR(10) NOT NULL, KEY(c))",
		"INSERT INTO %s VALUES (1,'x',2,'p',3,'f')",
		"ALTER TABLE %s ADD COLUMN g INT NOT NULL DEFAULT 7, ALGORITHM=INSTANT", "ALTER TABLE %s ADD COLUMN h VARCHAR(20) DEFAULT 'abc' AFTER a, ALGORITHM=INSTANT",
		"ALTER TABLE %s DROP COLUMN b, ALGORITHM=INSTANT", "ALTER TABLE %s DROP COLUMN d, ALGORITHM=INSTANT", "ALTER TABLE %s DROP COLUMN e, ADD COLUMN i TEXT FIRST, ALGORITHM=INSTANT",
		"ALTER TABLE %s ADD COLUMN k DATETIME(3) DEFAULT '2020-02-03 04:05:06.789', ADD COLUMN l BIT(9) NOT NULL DEFAULT b'101', ALGORITHM=INSTANT", "INSERT INTO %s (a,f) VALUES (2,'f')")
	add(eight, "instantpart", "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(30), c INT, KEY(c)) PARTITION BY HASH (a) PARTITIONS 2",
		"INSERT INTO %s VALUES (1,'x',2),(2,'y',3)", "ALTER TABLE %s ADD COLUMN g INT NOT NULL DEFAULT 7, ALGORITHM=INSTANT", "ALTER TABLE %s DROP COLUMN b, ALGORITHM=INSTANT")
	add(eight, "instantred", "CREATE TABLE %s (a INT PRIMARY KEY, b CHAR(30) CHARACTER SET utf8mb4, c INT, v INT AS (c+1), KEY(v)) ROW_FORMAT=REDUNDANT",
		"ALTER TABLE %s ADD COLUMN g INT, ALGORITHM=INSTANT", "ALTER TABLE %s DROP COLUMN b, ALGORITHM=INSTANT")
	add(eight, "renamed", "CREATE TABLE %s (a INT PRIMARY KEY, b CHAR(30), KEY k (b))", "ALTER TABLE %s RENAME COLUMN b TO c, RENAME KEY k TO l, ADD KEY m (a,c)")
	add(eight, "packed", "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(200)) COMPRESSION='zlib'")
	add(eight, "packedlz4", "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(200)) COMPRESSION='lz4'")
	wide := make([]string, 400)
	for i := range wide {
		wide[i] = fmt.Sprintf("column_number_%d TINYINT COMMENT 'a comment that makes the definition longer, number %d'", i, i*i*7919)
	}
	add(eight, "wide", "CREATE TABLE %s (id INT PRIMARY KEY, "+strings.Join(wide, ",")+")")
	add(eight, "widezip", "CREATE TABLE %s (id INT PRIMARY KEY, "+strings.Join(wide, ",")+") ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4")
}

func mariaKinds(root *mysqldtest.Root, add func(bool, string, ...string)) {
	maria := root.MariaDB()
	add(maria, "instant", "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(30), c INT, d ENUM('p','q') NOT NULL, f CHAR(10) NOT NULL, KEY(c))",
		"INSERT INTO %s VALUES (1,'x',2,'p','f')", "ALTER TABLE %s ADD COLUMN g INT NOT NULL DEFAULT 7, ALGORITHM=INSTANT",
		"ALTER TABLE %s ADD COLUMN h VARCHAR(20) DEFAULT 'abc' AFTER a, ALGORITHM=INSTANT", "ALTER TABLE %s DROP COLUMN b, ALGORITHM=INSTANT",
		"ALTER TABLE %s MODIFY f CHAR(10) NOT NULL FIRST, ALGORITHM=INSTANT", "INSERT INTO %s (a,f) VALUES (2,'f')")
	for name, format := range map[string]string{"instantdyn": "DYNAMIC", "instantred": "REDUNDANT"} {
		add(maria, name, "CREATE TABLE %s (k VARCHAR(200) NOT NULL, a INT NOT NULL, b VARCHAR(300), c INT NOT NULL, d CHAR(10), e VARCHAR(50), PRIMARY KEY (k,a)) CHARSET=latin1 ROW_FORMAT="+format,
			"INSERT INTO %s SELECT CONCAT(REPEAT('k',100),seq), seq, 'b', 1, 'd', 'e' FROM t.seq_1_to_2000",
			"ALTER TABLE %s DROP COLUMN b, DROP COLUMN d, ALGORITHM=INSTANT", "ALTER TABLE %s ADD COLUMN f INT FIRST, DROP COLUMN c, ALGORITHM=INSTANT")
	}
	add(maria, "instantadd", "CREATE TABLE %s (a INT PRIMARY KEY, b INT)", "INSERT INTO %s VALUES (1,2)", "ALTER TABLE %s ADD COLUMN c VARCHAR(20) DEFAULT 'x', ALGORITHM=INSTANT")
	add(maria, "pagecomp", "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(200)) PAGE_COMPRESSED=1")
	add(maria, "versioned", "CREATE TABLE %s (a INT PRIMARY KEY, b INT) WITH SYSTEM VERSIONING")
	add(maria, "inet", "CREATE TABLE %s (a INT PRIMARY KEY, b INET6, c INT INVISIBLE)")
	add(maria, "longuniq", "CREATE TABLE %s (a INT PRIMARY KEY, b TEXT, c VARCHAR(20) AS (LEFT(b,20)) VIRTUAL, UNIQUE(b), KEY(c))")
	add(maria, "compcol", "CREATE TABLE %s (a INT PRIMARY KEY, b TEXT COMPRESSED, c VARCHAR(300) COMPRESSED)")
	add(maria && root.AtLeast(10, 7), "uuids", "CREATE TABLE %s (a UUID PRIMARY KEY, b INET4, KEY(b))")
	add(maria && root.AtLeast(10, 8), "desc8", "CREATE TABLE %s (a INT, b VARCHAR(30) NOT NULL, c INT, PRIMARY KEY(a DESC, b), KEY(c DESC), KEY x (c, b DESC))")
	add(maria && root.AtLeast(10, 10), "uca1400", "CREATE TABLE %s (a VARCHAR(30) COLLATE utf8mb4_uca1400_ai_ci, b VARCHAR(30) COLLATE ucs2_uca1400_german2_as_ci, KEY(a), KEY(b))")
	add(maria && root.AtLeast(11, 7), "vectors", "CREATE TABLE %s (a INT PRIMARY KEY, v VECTOR(5) NOT NULL)")
}
