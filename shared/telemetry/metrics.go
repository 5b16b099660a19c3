package telemetry

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Registry holds every metric of the process. Handler serves it.
var Registry = prometheus.NewRegistry()

// Buckets for latencies, from 100 microseconds to 60 seconds.
var seconds = []float64{
	.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60,
}

// Buckets for waits for people and queues, up to a week.
var longSeconds = []float64{
	.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600,
	6 * 3600, 86400, 7 * 86400,
}

// Fine buckets, about 10 % apart, for comparing runs: from 0.1 milliseconds to two minutes.
var fineSeconds = prometheus.ExponentialBucketsRange(.0001, 120, 150)

// The metrics follow Prometheus' conventions: base units, the prefix ehi_, labels of bounded
// cardinality only (never an ID or a path with an ID).
var (
	HTTPRequests = counters("ehi_http_requests_total",
		"HTTP requests answered, by route template, method and status.", "route", "method",
		"status")
	HTTPSeconds = histograms("ehi_http_request_duration_seconds",
		"Time from the request's headers to the answer's, without the time that it was held, by "+
			"route template. Exemplars have the trace's id.", "route", "method")
	HTTPInFlight = gauge("ehi_http_requests_in_flight",
		"HTTP requests being answered, without those that are held.")
	HTTPHeld = gauge("ehi_http_requests_held",
		"Status requests that are held until their job changes.")
	HeldSeconds = histograms("ehi_http_held_duration_seconds",
		"Time that a status request was held, by what ended it: news (of its job), time, stop "+
			"(of the server), gone (its client).", "end")
	HoldsRefused = counter("ehi_http_holds_refused_total",
		"Status requests that were answered at once because --max-held others were held.")
	HTTPConnections = gauge("ehi_http_connections", "Connections of clients that are open.")
	HTTPReceived    = counter("ehi_http_received_bytes_total",
		"Bytes that came in over HTTP, heads included.")
	HTTPSent = counter("ehi_http_sent_bytes_total",
		"Bytes that went out over HTTP, heads included.")
	Refused = counters("ehi_refused_total",
		"Requests refused by a limit: queue, client, stored, disk, stopping, polls; and "+
			"connections: address (--address-connections), connections (--max-connections).",
		"limit")
	QuotaRefused = counters("ehi_quota_refused_total",
		"Kick-offs and forms refused because a quota was used up: client- or patient-, of "+
			"kick-offs, exports or bytes.", "quota")
	QuotaUse = gauges("ehi_quota_use_ratio",
		"Used share of a quota, of the client or patient that was counted last.", "quota")
	QuotaCounted = counters("ehi_quota_counted_total",
		"Kick-offs and exports that were counted against a quota.", "quota")
	IdleClosed = counter("ehi_http_idle_closed_total",
		"Connections on which no request was being answered, closed to make room for new ones.")
	StalledCut = counter("ehi_http_stalled_total",
		"Connections that were cut because their client took too little of its answers for "+
			"--write-stall.")
	HTTPBroken = counter("ehi_http_broken_total",
		"Connections that broke before a request had come, or within one: reset, for the most "+
			"part.")

	Jobs      = gauges("ehi_jobs", "Export jobs kept, by status.", "status")
	JobOldest = gauges("ehi_job_oldest_seconds",
		"Time since the kick-off of the oldest job in a status; 0 where there is none.", "status")
	JobsCreated = counters("ehi_jobs_created_total",
		"Export jobs kicked off, by kind: patient, patients, group, system.", "kind")
	JobsEnded = counters("ehi_jobs_ended_total",
		"Export jobs that reached a status that ends the server's work, by kind and that status; "+
			"aborted: deleted before they had.", "kind", "status")
	JobSeconds = histograms("ehi_job_export_duration_seconds",
		"Time from the request of an export to its last committed task, by lane.", "lane")
	JobPhase = longHistograms("ehi_job_phase_duration_seconds",
		"Time that a job spent in a phase, by lane: form (until it was submitted), queue (until "+
			"a worker first took it), export (of the work itself), review (until an "+
			"administrator decided).", "phase", "lane")

	CommandsPublished = counters("ehi_commands_published_total",
		"Commands published to JetStream, by lane and kind: start of a job, task of a population.",
		"lane", "kind")
	CommandsRedelivered = counters("ehi_commands_redelivered_total",
		"Commands that a worker received for the second time or later, by lane.", "lane")
	CommandsDone = counters("ehi_commands_done_total",
		"Commands that a worker acknowledged, by lane.", "lane")
	CommandsDead = counter("ehi_commands_dead_total",
		"Jobs given up after their last attempt; they are failed.")
	QueuePending = gauges("ehi_queue_pending",
		"Commands that no worker has finished, by lane.", "lane")
	QueueInHand = gauges("ehi_queue_in_hand",
		"Commands in the hands of any process's workers, by lane.", "lane")
	QueueWaiting = gauges("ehi_queue_waiting_workers",
		"Workers of all processes that wait for a command, by lane.", "lane")
	Exporters = gauges("ehi_exporters",
		"Exporters that have joined, stand-alone ones and those within servers, by whether they "+
			"belong to the server: yes, no. Those that do not take no commands.", "belongs")
	ExporterMismatch = gauges("ehi_exporter_mismatch",
		"Whether this process's exporter differs from its server, by what: server (none has said "+
			"what it asks for), records, version, files, rules, build. It takes no commands then.",
		"trait")
	QueueOldest = gauges("ehi_queue_oldest_seconds",
		"Age of the oldest command that no worker has finished, by lane; 0 where there is none.",
		"lane")
	StateBytes = gauges("ehi_state_bytes",
		"Size of a JetStream stream on its disk: the lanes' commands and the buckets' records.",
		"stream")
	StateRecords = gauges("ehi_state_records",
		"Messages of a JetStream stream: commands, or the latest records and tombstones of a "+
			"bucket.", "stream")
	ReconcilerRepublished = counter("ehi_reconciler_republished_total",
		"Start commands that were lost and published again.")

	Workers     = gauges("ehi_workers", "Workers of this process, by lane.", "lane")
	WorkersBusy = gauges("ehi_workers_busy",
		"Workers of this process that have a command in hand, by lane.", "lane")
	BulkYielded = counter("ehi_bulk_yielded_seconds_total",
		"Time that tasks of population exports waited for patients' exports to go first.")
	TasksEnded = counters("ehi_tasks_ended_total",
		"Export tasks by outcome: committed, superseded, cancelled, handed-back (the process "+
			"stopped), error.", "outcome")

	SourceOpenSeconds = histogram("ehi_source_open_duration_seconds",
		"Time until the source has a record, or a part of a population, ready to be read.")
	SourceResources = counter("ehi_source_resources_total",
		"Resources read from the source for exports, withheld ones included.")
	PipelineResources = counters("ehi_pipeline_resources_total",
		"Resources written to export files, by type (by-patient: files organized by patient).",
		"type")
	PipelineBytes = counters("ehi_pipeline_bytes_total",
		"Bytes written to export files, by type.", "type")
	PipelineSlabs = counters("ehi_pipeline_slabs_total",
		"Slabs of lines that an actor received, by actor.", "actor")
	PipelineWithheld = counters("ehi_pipeline_withheld_total",
		"Resources that the release form kept out, by the kind of reason: category, document, "+
			"sensitive and others.", "reason")
	NativeFiles = counters("ehi_native_files_total",
		"Native files written into exports, by kind: document, table or data (of an "+
			"attachment).", "kind")
	NativeRows = counter("ehi_native_rows_total",
		"Rows of tables written into exports.")
	NativeBytes = counters("ehi_native_bytes_total",
		"Bytes of documents and tables in exports, by way: linked (shared with the record store) "+
			"or written.", "way")
	MailboxDepth = gauges("ehi_mailbox_slabs",
		"Slabs waiting in the mailboxes of all running pipelines, or for room there, by "+
			"receiving actor.", "actor")
	MailboxCapacity = gauges("ehi_mailbox_capacity_slabs",
		"Slabs that the mailboxes of all running pipelines can hold, by receiving actor.", "actor")
	MailboxBlocked = counters("ehi_mailbox_blocked_seconds_total",
		"Time that senders waited for room in a mailbox, by receiving actor.", "actor")

	WriteSeconds = histogram("ehi_files_write_duration_seconds",
		"Time that a writer took over one slab, compression included.")
	SyncSeconds = histograms("ehi_files_sync_duration_seconds",
		"Time that the disk took to make a file or its folder durable.", "what")
	CommitSeconds = histogram("ehi_files_commit_duration_seconds",
		"Time to make one task's files durable.")
	ExportBytes = gauge("ehi_export_stored_bytes",
		"Bytes that the file store keeps of all jobs, by their records.")
	ExportFiles = gauge("ehi_export_files", "Files that the file store keeps of all jobs.")
	ExportFree  = gauge("ehi_export_free_bytes",
		"Space on the disk of the exports that this process can still write to.")
	DiskFull = counter("ehi_disk_full_total",
		"Exports that had to wait because the disk was full.")
	Rescue = gauge("ehi_rescue",
		"1 while the server is in rescue mode: it gives back and deletes what is there, and "+
			"takes nothing new.")
	NATSRestarts = counter("ehi_nats_restarts_total",
		"Times that the embedded NATS was started anew, because it could not write.")

	StoreBytes = sampledGauge("ehi_store_bytes",
		"Size of the record store (Pebble) on its disk.")
	StoreTables            = sampledGauge("ehi_store_tables", "Tables (files) of the record store.")
	StoreReadAmplification = sampledGauge("ehi_store_read_amplification",
		"Levels of tables that a look-up in the record store may have to visit.")
	StoreMemtableBytes = sampledGauge("ehi_store_memtable_bytes",
		"Memory of the record store's memtables.")
	StoreCacheBytes = sampledGauge("ehi_store_cache_bytes",
		"Memory of the record store's block cache that is in use.")
	StoreCacheHits = sampledCounter("ehi_store_cache_hits_total",
		"Blocks that the record store found in its cache.")
	StoreCacheMisses = sampledCounter("ehi_store_cache_misses_total",
		"Blocks that the record store had to read from its disk.")
	StoreCompactions = sampledCounter("ehi_store_compactions_total",
		"Compactions of the record store.")
	StoreCompactionDebt = sampledGauge("ehi_store_compaction_debt_bytes",
		"Bytes that the record store has yet to compact.")
	StoreSnapshots = sampledGauge("ehi_store_snapshots",
		"Snapshots of the record store that exports read from.")
	StoreDamagedFiles = gauge("ehi_store_damaged_files",
		"Files of the record store in which damage has been found since the start.")

	TokensIssued = counters("ehi_auth_tokens_issued_total", "Access tokens issued, by grant type.",
		"grant")
	TokensRefused = counters("ehi_auth_tokens_refused_total",
		"Token requests refused, by grant type (other: none of the server's) and OAuth error code.",
		"grant", "error")
	Logins = counters("ehi_logins_total",
		"Log-ins, by page (admin, patient; again: an administrator proves once more who he is), "+
			"method (password; totp and recovery: with a code, too; openid) and outcome (ok, "+
			"refused).", "page", "method", "outcome")

	AuditEvents = counters("ehi_audit_events_total",
		"Events of the audit trail, by action and outcome (ok, refused, failed).", "action",
		"outcome")
	PagesOpen = gauge("ehi_admin_pages_open",
		"Administrators' pages that are told of changes as they happen.")
	PagesDropped = counter("ehi_admin_pages_dropped_total",
		"Administrators' pages that took the news of changes too slowly; they ask again.")

	AuditLost = counter("ehi_audit_lost_total",
		"Audit events that could not be stored; the log has them.")

	StateLost = counter("ehi_state_lost_total",
		"Streams and buckets that lack records that nobody has deleted, as a start has found, or "+
			"a server while it used them. The log says which.")
	NATSLog = counters("ehi_nats_log_total",
		"Warnings and errors of the embedded NATS, by level (warn, error). The log has them.",
		"level")
	LogDropped = counter("ehi_log_dropped_total",
		"Lines of the log that were dropped: it was read too slowly.")
	AbuseRefused = counters("ehi_abuse_refused_total",
		"Requests answered 429 because their address or client had failed too often, or a name "+
			"had been given with wrong passwords, by what: address, client, account.", "what")
	ClientKeys = counters("ehi_client_keys_fetched_total",
		"Fetches of a client's keys by its jwks_uri, by outcome (ok, failed).", "outcome")

	KeeperRemoved = counters("ehi_janitor_removed_total",
		"What the keeper removed: expired jobs (job), files that no record names (file), "+
			"records of tasks whose job is gone (record).", "kind")
	Quarantined = gauge("ehi_janitor_quarantined_jobs",
		"Jobs of which there are files and no record: the files are kept for --orphan-grace, "+
			"since the record may be given back.")
	SweepStopped = gauge("ehi_janitor_stopped",
		"1 while the keeper waits for an administrator's word, else 0.")
	FilesDamaged = counters("ehi_files_damaged_total",
		"Files of exports that were found damaged: not there (missing), with fewer bytes "+
			"(short), other bytes (changed) or bytes behind its end (longer), or that the disk "+
			"does not give (unreadable).", "kind")
	DamagedFiles = gauge("ehi_damaged_files",
		"Files of exports that are known to be damaged and were not found whole again.")
	ScrubbedFiles = counter("ehi_scrubbed_files_total",
		"Files of finished exports that the scrubber read again, to compare them with their "+
			"checksums.")
	ScrubbedBytes = counter("ehi_scrubbed_bytes_total", "Bytes that the scrubber read.")
	ScrubRound    = gauge("ehi_scrub_round_timestamp_seconds",
		"When a scrubber last got through the files of all finished exports on this disk, "+
			"whichever process it was, in Unix time: until one has, when the first began. 0 "+
			"where this process does not scrub.")
	KeeperSeconds = histogram("ehi_keeper_round_duration_seconds",
		"How long a keeper round took.")
	KeeperSuccess = gauge("ehi_keeper_success_timestamp_seconds",
		"When a keeper round last ended without an error, in Unix time.")
	KeeperFailed = counter("ehi_keeper_rounds_failed_total",
		"Keeper rounds that met an error. The log has it.")

	CertificateExpiry = sampledGauge("ehi_certificate_expiry_timestamp_seconds",
		"When the certificate of --tls-cert expires, in Unix time; not told without one.")

	LoadRun = gauges("ehi_load_run_start_timestamp_seconds",
		"When a run of the load generator began, in Unix time, labelled with what it was told. "+
			"Told by bench/load, as all of ehi_load_.", "run", "url", "mix", "concurrency", "rate")
	LoadStepSeconds = fineHistograms("ehi_load_step_duration_seconds",
		"Time that a step of a flow took, as its client saw it, by run and step.", "run", "step")
	LoadFlows = counters("ehi_load_flows_total", "Flows that ended well, by run and action.",
		"run", "action")
	LoadFailed = counters("ehi_load_errors_total",
		"Errors of a run, by step and kind; kind verification is a wrong file.", "run", "step",
		"kind")
	LoadRefused = counters("ehi_load_refused_total",
		"Answers 429 and 503 of a run that were obeyed, by step.", "run", "step")
	LoadResources = counters("ehi_load_verified_resources_total",
		"Resources that a run downloaded and verified.", "run")
	LoadBytes = counters("ehi_load_verified_bytes_total",
		"Bytes that a run downloaded and verified.", "run")
	LoadJobs = gauges("ehi_load_jobs", "Jobs of a run by state, as its users know them.", "run",
		"state")

	buildInfo = gauges("ehi_build_info", "1, labelled with the running build.", "version", "go")
)

func init() {
	Registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	buildInfo.WithLabelValues(Version(), runtime.Version()).Set(1)
	// Initialize counters at 0: a counter that first appears with its first event shows no
	// increase.
	kinds, lanes := []string{
		"patient", "patients", "group", "system",
	}, []string{"interactive", "bulk"}
	for c, values := range map[counterVec][][]string{
		JobsCreated:         {kinds},
		JobsEnded:           {kinds, {"retrieved", "approved", "rejected", "failed", "aborted"}},
		KeeperRemoved:       {{"job", "file", "record"}},
		FilesDamaged:        {{"missing", "short", "changed", "longer", "unreadable"}},
		CommandsPublished:   {lanes, {"start", "task"}},
		CommandsRedelivered: {lanes},
		CommandsDone:        {lanes},
		TasksEnded:          {{"committed", "superseded", "cancelled", "handed-back", "error"}},
		Refused: {
			{"queue", "client", "stored", "disk", "stopping", "polls", "address", "connections"},
		},
		QuotaRefused: {
			{
				"client-kick-offs", "patient-kick-offs", "client-exports", "patient-exports",
				"client-bytes", "patient-bytes",
			},
		},
		Logins: {
			{"admin", "patient", "again"},
			{"password", "totp", "recovery", "openid"},
			{"ok", "refused"},
		},
		NativeFiles:  {{"document", "table"}},
		NativeBytes:  {{"linked", "written"}},
		AbuseRefused: {{"address", "client", "account"}}, ClientKeys: {{"ok", "failed"}},
	} {
		begin(c, nil, values)
	}
}

// counterVec is a counter with labels.
type counterVec interface {
	WithLabelValues(values ...string) prometheus.Counter
}

// begin creates a counter for each combination of label values.
func begin(c counterVec, chosen []string, values [][]string) {
	if len(values) == 0 {
		c.WithLabelValues(chosen...)
		return
	}
	for _, v := range values[0] {
		begin(c, append(chosen[:len(chosen):len(chosen)], v), values[1:])
	}
}
