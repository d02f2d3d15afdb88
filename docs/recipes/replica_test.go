package recipes

import (
	"errors"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

func init() {
	register("replica-mariadb.md", testReplicaMariaDB, mysqldtest.MariaDB...)
	register("replica-mysql.md", testReplicaMySQL, mysqldtest.MySQL...)
}

func testReplicaMariaDB(t *testing.T, r *recipe, root *mysqldtest.Root) {
	n := newReplication(t, root)
	n.provision(r)
	byGTID, byFile := n.followers(root.Name != mysqldtest.MariaDB105)
	r.run(byGTID, "Follow by GTID")
	r.run(byFile, "Follow by file and position")
	r.onAll("See that it follows", byGTID, byFile)
	r.run(n.replica2.sh, "One more, from the replica")
	n.finish()
}

func testReplicaMySQL(t *testing.T, r *recipe, root *mysqldtest.Root) {
	n := newReplication(t, root)
	n.provision(r)
	byGTID, byFile := n.followers(root.Name == mysqldtest.MySQL57)
	words := func(section string, shells ...*shell) {
		t.Helper()
		if s := section + ", MySQL 8.4 and later"; root.AtLeast(8, 4) {
			r.onAll(s, shells...)
		} else {
			r.leave(s)
		}
		if s := section + ", MySQL 5.6 and 5.7"; !root.AtLeast(8, 4) {
			r.onAll(s, shells...)
		} else {
			r.leave(s)
		}
	}
	words("Follow by GTID", byGTID)
	words("Follow by file and position", byFile)
	words("See that it follows", byGTID, byFile)
	r.run(n.replica2.sh, "One more, from the replica")
	words("Its position", n.replica2.sh)
	r.run(n.replica2.sh, "From then on")
	n.finish()
}

// replication is a source that is written to all the time, two replicas, and one
// that is made from a replica.
type replication struct {
	t                          *testing.T
	db, replica, too, replica2 terminalOn
	stop                       func()
}

// terminalOn is a host with a terminal.
type terminalOn struct {
	*host
	sh *shell
}

func newReplication(t *testing.T, root *mysqldtest.Root) *replication {
	t.Helper()
	n := &replication{t: t}
	for _, m := range []struct {
		at   *terminalOn
		name string
	}{{&n.db, "db"}, {&n.replica, "replica"}, {&n.too, "replica"}, {&n.replica2, "replica2"}} {
		h := newHost(t, m.name, root)
		*m.at = terminalOn{h, h.shell()}
		h.finds(n.db.host)
		h.configure(mysqldtest.Options{Binlog: true, Config: []string{"sync-binlog=0", "innodb-flush-log-at-trx-commit=2"}})
	}
	source := n.db.serve(mysqldtest.Options{Binlog: true})
	fill(t, source)
	n.db.sshd(n.replica.host)
	n.replica.sshd(n.replica2.host)
	n.stop = writes(t, source)
	return n
}

// provision makes the replicas as the page says; the second is a copy of the
// first before that is started.
func (n *replication) provision(r *recipe) {
	n.t.Helper()
	r.run(n.db.sh, "On the source")
	r.run(n.replica.sh, "On the replica")
	if err := mysqldtest.CopyTree(n.too.path("/var/lib/mysql"), n.replica.path("/var/lib/mysql")); err != nil {
		n.t.Fatal(err)
	}
	r.onAll("Start it", n.replica.sh, n.too.sh)
	n.too.db().Exec(n.t, "SET GLOBAL server_id = 4") // a source serves one of each number
}

// followers says which replica is to follow in which way: the first, which is
// backed up later, by GTID or not.
func (n *replication) followers(firstByGTID bool) (byGTID, byFile *shell) {
	if firstByGTID {
		return n.replica.sh, n.too.sh
	}
	return n.too.sh, n.replica.sh
}

// finish compares all replicas with their source.
func (n *replication) finish() {
	n.t.Helper()
	n.stop()
	source := n.db.db()
	for _, h := range []terminalOn{n.replica, n.too, n.replica2} {
		replica := h.db()
		mysqldtest.CatchUp(n.t, replica, source, patience)
		sameTables(n.t, source, replica)
	}
}

// writes writes to a server's tables until the function that it returns is
// called.
func writes(t *testing.T, s *mysqldtest.Server) (stop func()) {
	enough, ended := make(chan bool), make(chan error, 1)
	// Statements are not cut off: who knows what would become of the last one.
	insert := func(statement string) error { _, err := s.DB().ExecContext(t.Context(), statement); return err }
	go func() {
		for {
			select {
			case <-enough:
				ended <- nil
				return
			case <-time.After(20 * time.Millisecond):
			}
			err := errors.Join(insert("INSERT INTO shop.orders (note) VALUES (UUID())"),
				insert("INSERT INTO shop.old_orders SELECT MAX(id), 'new' FROM shop.orders"))
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() {
		t.Helper()
		close(enough)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}
