package recipes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("wal-g.md", testWALG, mysqldtest.MySQL97) }

// realWALG names the real program, if the test is to run that. No package has it,
// and it is built for one kind of server at a time, from a checkout.
const realWALG = "HB_TEST_WALG"

// standIn runs the commands of a configuration as WAL-G does (3.0.8, docs/MySQL.md,
// internal/databases/mysql/backup_push_handler.go, backup_fetch_handler.go and
// xtrabackup.go): by a shell, with the backup's data on a pipe. A backup exists once
// it has a sentinel, which is written only if the command has succeeded. A command
// that names xtrabackup or xbstream gets a further option.
const standIn = `#!/bin/bash
set -uo pipefail
[ "$1" = --config ] || exit 1
config=$2 do=$3
setting() { jq -r --arg k "$1" '.[$k] // empty' "$config"; }
base=$(setting WALG_FILE_PREFIX)/basebackups_005
mkdir -p "$base"
sentinels() { cd "$base" && ls | sed -n 's/_backup_stop_sentinel\.json$//p' | sort; }
fatal() { echo "ERROR: $*" >&2; exit 1; }
case $do in
backup-push)
	name=stream_$(date -u +%Y%m%dT%H%M%SZ)
	create=$(setting WALG_STREAM_CREATE_COMMAND)
	case $create in *xtrabackup* | *xbstream*) create+=" --extra-lsndir=$(mktemp -d)" ;; esac
	mkdir "$base/$name" || fatal "there is a $name"
	"${SHELL:-/bin/sh}" -c "$create" 2>"$base/.said" | zstd -q >"$base/$name/stream.zst"
	codes=("${PIPESTATUS[@]}")
	[ "${codes[0]}" = 0 ] || { cat "$base/.said" >&2; fatal "backup create command failed: exit status ${codes[0]}"; }
	[ "${codes[1]}" = 0 ] || fatal "failed to push backup"
	echo '{}' >"$base/${name}_backup_stop_sentinel.json"
	;;
backup-list)
	echo "backup_name last_modified"
	sentinels
	;;
backup-fetch)
	name=$(sentinels | tail -n 1)
	[ "$4" = LATEST ] && [ -n "$name" ] || fatal "no backup"
	prepare=$(setting WALG_MYSQL_BACKUP_PREPARE_COMMAND)
	zstd -qdc "$base/$name/stream.zst" | "${SHELL:-/bin/sh}" -c "$(setting WALG_STREAM_RESTORE_COMMAND)" ||
		fatal "Failed to fetch backup: exit status $?"
	[ -z "$prepare" ] || "${SHELL:-/bin/sh}" -c "$prepare" || fatal "failed to prepare fetched backup: exit status $?"
	;;
*) fatal "the test cannot do $do" ;;
esac
`

func testWALG(t *testing.T, r *recipe, root *mysqldtest.Root) {
	mysqldtest.Program(t, "jq")
	db := newHost(t, "db", root)
	if real := os.Getenv(realWALG); real != "" {
		db.write("/usr/local/bin/wal-g", "#!/bin/sh\nexec "+real+" \"$@\"\n")
	} else {
		db.write("/usr/local/bin/wal-g", standIn)
	}
	server := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, server)
	fillRandom(t, server)
	sh := db.shell()
	r.run(sh, "Configuration")
	if said := r.run(sh, "Back up"); strings.Count(said, "\nstream_") != 1 {
		t.Errorf("the list of backups is %q", said)
	}
	want := checksums(t, server)
	server.Exec(t, "DELETE FROM shop.orders WHERE id % 2 = 0")

	testWALGFails(t, db, sh)
	r.run(sh, "Restore")
	hasTables(t, db.db(), want)
	testWALGOtherwise(t, db, sh, want)
}

// testWALGFails: a backup that fails is not listed, and the command must not look
// like XtraBackup.
func testWALGFails(t *testing.T, db *host, sh *shell) {
	t.Helper()
	const walg = "wal-g --config /etc/wal-g.json "
	sh.must("sleep 1") // the next has another name
	wait := sh.start("HB_THROTTLE=4MiB " + walg + "backup-push")
	await(t, "the first data", func() bool { return arriving(t, db) })
	if err := db.kill(); err != nil {
		t.Fatal(err)
	}
	if code, said := wait(); code != 1 || !strings.Contains(said, "hb: ") || !strings.Contains(said, "exit status 5") {
		t.Errorf("the server was killed: exit code %d\n%s", code, said)
	}
	db.resume()
	sh.must("mkdir -p /etc/xtrabackup && cp /etc/hb.cnf /etc/xtrabackup/ && sed s,=/etc/hb.cnf,=/etc/xtrabackup/hb.cnf, /etc/wal-g.json >/etc/other.json")
	sh.fails(1, "unknown flag --extra-lsndir", "sleep 1; wal-g --config /etc/other.json backup-push")
	if said := sh.must(walg + "backup-list"); strings.Count(said, "\nstream_") != 1 {
		t.Errorf("after backups that failed the list is %q", said)
	}
}

// arriving reports whether a second backup has data in the storage.
func arriving(t *testing.T, db *host) bool {
	t.Helper()
	paths, err := filepath.Glob(db.path("/srv/wal-g/basebackups_005/stream_*/stream*"))
	if err != nil || len(paths) < 2 {
		return false
	}
	st, err := os.Stat(paths[1]) // the names are times
	return err == nil && st.Size() > 100_000
}

// testWALGOtherwise: hb extract and hb apply as two commands of the configuration,
// and data that were cut after WAL-G had stored them.
func testWALGOtherwise(t *testing.T, db *host, sh *shell, want map[string]string) {
	t.Helper()
	sh.must(`jq '.WALG_STREAM_RESTORE_COMMAND = "hb extract -C /srv/restored" |
		.WALG_MYSQL_BACKUP_PREPARE_COMMAND = "hb apply /srv/restored"' /etc/wal-g.json >/etc/other.json
		wal-g --config /etc/other.json backup-fetch LATEST`)
	restored(t, db, "/srv/restored", want)

	const cut = `sed s,/srv/restored,/srv/cut, /etc/other.json >/etc/cut.json
		for f in /srv/wal-g/basebackups_005/stream_*/stream.*; do
			zstd -qdc "$f" 2>/dev/null | head -c 20000000 | zstd -q >"$f.new" && mv "$f.new" "$f"
		done`
	sh.must("set +o pipefail; " + cut + "; set -o pipefail")
	sh.fails(1, "exit status 6", "wal-g --config /etc/cut.json backup-fetch LATEST")
	sh.fails(8, "", "hb apply /srv/cut")
}
