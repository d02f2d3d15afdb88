package definitions

import (
	"slices"
	"testing"
)

// TestParentsOf: as MySQL 5.6.24 and MariaDB 11.8.9 show foreign keys.
func TestParentsOf(t *testing.T) {
	const head, tail = "CREATE TABLE `c` (\n  `id` int(11) NOT NULL,\n  KEY `k` (`id`),\n", "\n) ENGINE=InnoDB COMMENT='x FOREIGN KEY (`a`) REFERENCES `no` (`b`)'"
	for text, want := range map[string][]string{
		"  CONSTRAINT `c_ibfk_1` FOREIGN KEY (`id`) REFERENCES `p` (`id`) ON DELETE CASCADE ON UPDATE SET NULL":                            {"d.p"},
		"  CONSTRAINT `a` FOREIGN KEY (`id`, `b`) REFERENCES `e`.`p` (`x`, `y`),\n  CONSTRAINT `b` FOREIGN KEY (`b`) REFERENCES `q` (`z`)": {"d.q", "e.p"},
		"  CONSTRAINT `a` FOREIGN KEY (`id`) REFERENCES `e ``.```.`p (``)` (`x`)":                                                          {"e `.`.p (`)"},
		"  CONSTRAINT `a` FOREIGN KEY (`id`) REFERENCES `p` (`x`),\n  CONSTRAINT `b` FOREIGN KEY (`id`) REFERENCES `p` (`y`)":              {"d.p"},
		"  CONSTRAINT `odd` FOREIGN KEY (id) REFERENCES p (x)":                                                                             {"."},
		"  CONSTRAINT `c` CHECK (`id` > 0)": nil,
	} {
		var got []string
		for _, k := range parentsOf("d", head+text+tail) {
			got = append(got, k.database+"."+k.name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestWithoutAutoIncrement(t *testing.T) {
	for text, want := range map[string][2]string{
		"(\n  `a` int COMMENT ' AUTO_INCREMENT=1'\n) ENGINE=InnoDB AUTO_INCREMENT=17 DEFAULT CHARSET=utf8 COMMENT='x AUTO_INCREMENT=2 SEQUENCE=1'": {
			"(\n  `a` int COMMENT ' AUTO_INCREMENT=1'\n) ENGINE=InnoDB DEFAULT CHARSET=utf8 COMMENT='x AUTO_INCREMENT=2 SEQUENCE=1'", " DEFAULT CHARSET=utf8 COMMENT="},
		"(\n) /*!50100 TABLESPACE `t s` */ ENGINE=InnoDB AUTO_INCREMENT=3": {"(\n) /*!50100 TABLESPACE `t s` */ ENGINE=InnoDB", ""},
		"(\n) ENGINE=InnoDB SEQUENCE=1\n PARTITION ' AUTO_INCREMENT=4'":    {"(\n) ENGINE=InnoDB SEQUENCE=1\n PARTITION ' AUTO_INCREMENT=4'", " SEQUENCE=1"},
		"CREATE VIEW `v`": {"CREATE VIEW `v`", ""},
	} {
		if got, options := withoutAutoIncrement(text); got != want[0] || unquoted(options) != want[1] {
			t.Errorf("%s: %q, options %q, want %q", text, got, unquoted(options), want)
		}
	}
}
