package main

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"hb/scripts/torture.d/damage"
	"hb/scripts/torture.d/load/kinds"
	"hb/source/mysqld/mysqldtest"
)

// servers are those that scripts/servers brings.
var servers = slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL)

// A plan is all that a round draws. The same seed and round draw the same plan;
// how the server's threads meet hb's is left to them.
type plan struct {
	seed  uint64
	round int
	aim   aim

	server   string
	settings []*setting // one of each group
	connect  string     // how hb reaches the server
	loads    []string
	writeFor time.Duration // the load runs so long before the backup begins
	backup   []string      // options of hb backup
	pipe     string
	fault    string
	disturb  string    // what happens to the victim's name meanwhile
	at       []float64 // when: shares of the time that a backup takes, and of other ranges
	ways     []string  // of restoring
	damage   [2]string // what is done to a recovered directory, and to one without a manifest
	when     string    // whether the loads still run when the backup begins
	last     string    // what is done when all copies are judged
	loadSeed uint64
	chain    int  // how many incremental backups there are
	brief    bool // see lighten
}

// choices are the names that aims can have.
var choices = []string{"server", "load", "fault", "disturb", "setting", "way", "pipe", "connect", "option", "damage", "when", "last", "chain"}

// draw draws the plan of a round. Everything is drawn in a fixed order, before
// the aim replaces what was drawn: an aim changes nothing else of a plan.
func draw(seed uint64, number int, a aim) *plan {
	rnd := rand.New(rand.NewPCG(seed, uint64(number)))
	p := &plan{seed: seed, round: number, aim: a}
	p.server = a.force("server", pick(rnd, servers))
	mariadb := slices.Contains(mysqldtest.MariaDB, p.server)
	for _, g := range settingGroups {
		p.settings = append(p.settings, g.draw(rnd, p.server, a.of("setting")))
	}
	p.connect = a.force("connect", pick(rnd, []string{"socket", "socket", "tcp", "tls"}))
	p.drawLoads(rnd, a.of("load"))
	p.writeFor = time.Duration(300+rnd.IntN(1200)) * time.Millisecond
	p.backup = drawOptions(rnd, p.server)
	p.backup = append(p.backup, a.of("option")...)
	p.pipe = a.force("pipe", pick(rnd, []string{"fast", "fast", "slow", "stalls"}))
	fault := "none"
	if drawn := pick(rnd, faultNames(p.server)); rnd.IntN(5) < 3 {
		fault = drawn
	}
	p.fault = a.force("fault", fault)
	p.disturb = a.force("disturb", pick(rnd, disturbances))
	for range 6 {
		p.at = append(p.at, rnd.Float64())
	}
	p.drawWays(rnd, mariadb, a.of("way"))
	p.drawDamage(rnd, a.of("damage"))
	p.when = a.force("when", pick(rnd, whens))
	p.last = a.force("last", pick(rnd, lastThings))
	p.loadSeed = rnd.Uint64()
	p.chain, _ = strconv.Atoi(a.force("chain", pick(rnd, chains)))
	p.fit()
	return p
}

// fit leaves settings out that the loads or the fault cannot do with: compressed
// pages and single files of tables do not go with all.
func (p *plan) fit() {
	unfit := func(setting string, by bool) {
		for i, s := range p.settings {
			if s != nil && s.name == setting && by {
				p.settings[i] = nil
			}
		}
	}
	has := func(load string) bool { return slices.Contains(p.loads, load) }
	if has("left out") { // a server does not know which tables are to be left out
		p.ways = slices.DeleteFunc(p.ways, func(w string) bool { return w == "by-server" || w == "peer" })
	}
	unfit("page 4k", has("mixed"))
	unfit("page 8k", has("mixed"))
	unfit("one file for all tables", has("mixed") || has("imports") || has("elsewhere") || usesVictim(p.fault))
	unfit("one file for all tables", p.server == mysqldtest.MySQL56 && (has("columns") || has("truncates") || has("indexes")))
	// In a database that encrypts by default no table can be of another engine, or in the
	// system tablespace, or in a tablespace that is not encrypted.
	for _, s := range []string{"encrypted", "encrypted tables"} {
		unfit(s, p.has("one file for all tables") || slices.ContainsFunc(p.loads, func(l string) bool { return !slices.Contains(encryptable, l) }))
	}
	// Tables inside the system tablespace are in every backup.
	unfit("one file for all tables", has("left out"))
	// 8.0 and later have partitions in files of their own, and exchange none with another's.
	unfit("one file for all tables", p.server == mysqldtest.MySQL97 && has("partitions"))
	// No checksum, nothing to tell the damage by.
	unfit("checksum none", slices.Contains([]string{"page flipped", "page flipped later", "page misplaced"}, p.fault))
	// The loads connect before these are set, what some faults do does not.
	if faultNamed(p.fault).during != nil || faultNamed(p.fault).victim {
		for i, s := range p.settings {
			if s != nil && s.globals != nil {
				p.settings[i] = nil
			}
		}
	}
	// The threads go on after the last backup of the chain.
	unfit(encryptionBegins, p.when == "idle" && p.chain > 0)
	// The table that the source logs to is closed when it ends, and not before.
	if has("logs") {
		unfit("read only", true)
	}
	if p.server == mysqldtest.MySQL97 && p.keyring() && p.loadSeed%2 == 0 && !has("encryptions") {
		p.loads = append(p.loads, "encryptions")
	}
}

// encryptable are the loads all of whose tables MySQL can encrypt where they are.
var encryptable = []string{"commits", "victim", "renames", "indexes", "truncates", "partitions", "columns", "bulk", "logs"}

// whens are the moments of a backup: under load, or when all has been written.
var whens = []string{"busy", "busy", "busy", "busy", "busy", "idle"}

// chains are the numbers of incremental backups after a full one.
var chains = []string{"0", "0", "0", "1", "2", "3"}

// lastThings are what a round may end with.
var lastThings = []string{"nothing", "nothing", "in place"}

func pick[T any](rnd *rand.Rand, of []T) T { return of[rnd.IntN(len(of))] }

// drawLoads draws one to three kinds of load. Commits are always counted: that is
// what position and data are compared by.
func (p *plan) drawLoads(rnd *rand.Rand, aimed []string) {
	names := kinds.Names()
	rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	n := 1 + rnd.IntN(3)
	if len(aimed) > 0 {
		names, n = aimed, len(aimed)
	}
	p.loads = append([]string{kinds.All[0].Name, kinds.All[1].Name}, names[:min(n, len(names))]...)
}

func drawOptions(rnd *rand.Rand, server string) (out []string) {
	out = append(out, pick(rnd, []string{"--parallel=1", "--parallel=2", "--parallel=8"}))
	switch rnd.IntN(6) {
	case 0:
		out = append(out, "--throttle=8MiB")
	case 1, 2:
		out = append(out, "--throttle=20MiB")
	}
	switch rnd.IntN(4) {
	case 0:
		out = append(out, "--compress")
	case 1:
		out = append(out, "--compress", "--encrypt-passphrase-file=@PASS@")
	}
	lock := rnd.IntN(8)
	switch {
	case server == mysqldtest.MySQL97 && lock < 3:
		out = append(out, "--lock-ddl=ON")
	case slices.Contains(mysqldtest.MySQL[:2], server) && lock == 0:
		out = append(out, "--lock-ddl-per-table")
	}
	return out
}

// drawWays draws how the archive is restored: always by hb, and then in other
// ways that must come to the same.
func (p *plan) drawWays(rnd *rand.Rand, mariadb bool, aimed []string) {
	p.ways = []string{"apply"}
	others := []string{"apply-small", "one-pass", "one-pass-small", "killed-apply", "killed-one-pass", "powerless-apply", "powerless-one-pass", "failing-apply", "by-server"}
	if mariadb {
		others = append(others, "peer")
	}
	rnd.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	if len(aimed) > 0 {
		p.ways = append(p.ways, aimed...)
		return
	}
	p.ways = append(p.ways, others[:2]...)
}

// lighten leaves out of a plan that is to show what a file of hb's does what takes much
// time and does not show that.
func (p *plan) lighten(file string) {
	archive := path.Dir(file) == "xbstream" || file == "sink/extract/extract.go"
	p.backup = slices.DeleteFunc(p.backup, func(o string) bool { return strings.HasPrefix(o, "--encrypt") })
	switch {
	case len(p.aim.of("way")) > 0:
	case strings.HasPrefix(file, "sink/"):
		p.ways = p.ways[:2]
	default:
		p.ways = p.ways[:1]
	}
	for i, s := range p.settings {
		if s != nil && s.init != nil && !slices.Contains(p.aim.of("setting"), s.name) {
			p.settings[i] = nil
		}
	}
	p.last, p.when = p.aim.force("last", lastThings[0]), p.aim.force("when", whens[0])
	p.chain, _ = strconv.Atoi(p.aim.force("chain", chains[0]))
	p.brief = !archive
}

// drawDamage draws what is done to directories. Those that are no backup of hb's any
// more have names that say so.
func (p *plan) drawDamage(rnd *rand.Rand, aimed []string) {
	for i, of := range [][]damage.Directory{damage.Recovered, damage.Foreign} {
		p.damage[i] = pick(rnd, of).Name
		if len(p.aim) > 0 && len(aimed) == 0 {
			p.damage[i] = damage.Recovered[0].Name // it takes time, and shows nothing of what is aimed at
		}
		for _, name := range aimed {
			if slices.ContainsFunc(of, func(d damage.Directory) bool { return d.Name == name }) {
				p.damage[i] = name
			}
		}
	}
}

func (p *plan) String() string {
	var set []string
	for _, s := range p.settings {
		if s != nil {
			set = append(set, s.name)
		}
	}
	fault := p.fault
	if usesVictim(p.fault) {
		fault += " + " + p.disturb
	}
	return fmt.Sprintf("round %d: %s [%s], load %s for %v, %s, hb backup %s over %s, pipe %s, fault %s, restore by %s, damage %s, last %s, chain of %d", p.round, p.server, strings.Join(set, "; "),
		strings.Join(p.loads, "+"), p.writeFor, p.when, strings.Join(p.backup, " "), p.connect, p.pipe, fault, strings.Join(p.ways, ", "), strings.Join(p.damage[:], " and "), p.last, p.chain)
}

// command is what runs this round again.
func (p *plan) command() string {
	return fmt.Sprintf("scripts/torture --seed %d --round %d%s", p.seed, p.round, p.aim.args())
}
