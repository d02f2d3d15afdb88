package mysqld

import (
	"strings"
	"testing"
)

func TestMySQLGrants(t *testing.T) {
	e := &MissingPrivilegesError{User: "b@%", Missing: []Privilege{PrivBackupAdmin, PrivLogStatus, PrivProcess}}
	if want := "GRANT BACKUP_ADMIN, PROCESS ON *.* TO 'b'@'%'; GRANT SELECT ON performance_schema.log_status TO 'b'@'%';"; strings.Join(e.Grants(), " ") != want {
		t.Errorf("%s, want %s", strings.Join(e.Grants(), " "), want)
	}
	have := make(map[Privilege]bool)
	for _, line := range []string{"GRANT RELOAD, PROCESS, SUPER ON *.* TO `b`@`%`", "GRANT BACKUP_ADMIN,CONNECTION_ADMIN ON *.* TO `b`@`%`", "GRANT SELECT ON `performance_schema`.`log_status` TO `b`@`%`", "GRANT `r`@`%` TO `b`@`%`"} {
		addGlobalGrants(have, line)
	}
	have[PrivSelect] = true
	addGlobalGrants(have, "REVOKE SELECT ON `d`.* FROM `b`@`%`")
	d, err := SeriesOf(MySQL, Version{Major: 8, Patch: 30, Comment: community})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.missing(have, d.wanted(Needs{SlaveInfo: true, KillQueries: true, SafeSlave: true, DumpBufferPool: true, LockTableDDL: true}, true)); len(got) != 1 || got[0] != PrivSelect { // SUPER has the rest
		t.Errorf("missing %v", got)
	}
}

func TestGlobalGrants(t *testing.T) {
	for line, want := range map[string]string{
		"GRANT USAGE ON *.* TO `g`@`localhost` IDENTIFIED BY PASSWORD '*X'":   "USAGE",
		"GRANT RELOAD, binlog monitor ON *.* TO `g`@`%`":                      "BINLOG MONITOR|RELOAD",
		"GRANT REPLICATION CLIENT ON *.* TO 'g'@'%'":                          "BINLOG MONITOR|REPLICATION CLIENT",
		"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION": "ALL PRIVILEGES",
		"GRANT RELOAD ON `db`.* TO `g`@`%`":                                   "",
		"GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION":       "",
		"GRANT `RELOAD` TO `g`@`%`":                                           "",
		"GRANT `x ON *.* TO y` TO `g`@`%`":                                    "",
		"GRANT SELECT (`a`), RELOAD ON `d`.`x ON *.* TO ` TO `g`@`%`":         "",
		"SET DEFAULT ROLE `backup` FOR `g`@`localhost`":                       "",
		"GRANT SELECT ON *.* TO `a ON *.* TO b`@`%`":                          "SELECT",
		"REVOKE SELECT ON `d`.* FROM `g`@`%`":                                 "",
	} {
		have := make(map[Privilege]bool)
		addGlobalGrants(have, line)
		var got []string
		for _, p := range []Privilege{"ALL PRIVILEGES", "BINLOG MONITOR", "RELOAD", "REPLICATION CLIENT", "SELECT", "USAGE", "SLAVE MONITOR"} {
			if have[p] {
				got = append(got, string(p))
			}
		}
		if strings.Join(got, "|") != want || len(have) != len(got) {
			t.Errorf("%s: %v, want %s", line, have, want)
		}
	}
	have := map[Privilege]bool{PrivSelect: true, PrivTrigger: true, PrivEvent: true, PrivReload: true}
	addGlobalGrants(have, "REVOKE INSERT, TRIGGER, EVENT ON `shop`.* FROM `g`@`%`")
	if have[PrivTrigger] || have[PrivEvent] || !have[PrivSelect] || !have[PrivReload] {
		t.Errorf("after a partial revoke: %v", have)
	}
	e := &MissingPrivilegesError{User: "o'x@y@%", Missing: []Privilege{PrivReload, PrivSlaveMonitor}}
	if want := "GRANT RELOAD, SLAVE MONITOR ON *.* TO 'o''x@y'@'%';"; strings.Join(e.Grants(), " ") != want || !strings.Contains(e.Error(), want) {
		t.Errorf("%s; %v", strings.Join(e.Grants(), " "), e)
	}
}
