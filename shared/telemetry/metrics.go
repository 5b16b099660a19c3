package telemetry

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Registry holds every metric of the process; GET /metrics serves it.
var Registry = prometheus.NewRegistry()

// Buckets for latencies: from 100 microseconds to 60 seconds.
var seconds = []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// The metrics, by Prometheus' conventions: base units, ehi_ prefix, labels of bounded cardinality only (never an id or a
// path with an id in it).
var (
	HTTPRequests = counters("ehi_http_requests_total", "HTTP requests answered, by route template, method and status.", "route", "method", "status")
	HTTPSeconds  = histograms("ehi_http_request_duration_seconds", "Time from the request's headers to the answer's, by route template.", "route", "method")
	HTTPInFlight = gauge("ehi_http_requests_in_flight", "HTTP requests being answered.")

	JobsCreated = counters("ehi_jobs_created_total", "Export jobs kicked off, by lane.", "lane")
	JobsEnded   = counters("ehi_jobs_ended_total", "Export jobs that reached a status that ends the server's work, by that status.", "status")
	DiskFull    = counter("ehi_disk_full_total", "Exports that had to wait because the disk was full.")
	Jobs        = gauges("ehi_jobs", "Export jobs kept, by status.", "status")
	JobOldest   = gauges("ehi_job_oldest_seconds", "Time since the kick-off of the oldest job in a status; 0 where there is none.", "status")
	ExportFree  = gauge("ehi_export_free_bytes", "Space on the disk of the exports that this process can still write to.")
	ExportBytes = gauge("ehi_export_stored_bytes", "Bytes that the file store keeps of all jobs, by their records.")
	JobSeconds  = histograms("ehi_job_export_duration_seconds", "Time from the request of an export to its last committed task, by lane.", "lane")

	CommandsPublished   = counter("ehi_commands_published_total", "Commands published to JetStream: starts of jobs and tasks of populations.")
	CommandsRedelivered = counter("ehi_commands_redelivered_total", "Commands that a worker received for the second time or later.")
	CommandsDead        = counter("ehi_commands_dead_total", "Commands given up after their last delivery; their jobs are failed.")
	QueuePending        = gauges("ehi_queue_pending", "Commands that no worker has finished, by lane.", "lane")

	QueueOldest  = gauges("ehi_queue_oldest_seconds", "Age of the oldest command that no worker has finished, by lane; 0 where there is none.", "lane")
	StateBytes   = gauges("ehi_state_bytes", "Size of a JetStream stream on its disk: the lanes' commands and the buckets' records.", "stream")
	StateRecords = gauges("ehi_state_records", "Messages of a JetStream stream: commands, or the latest records and tombstones of a bucket.", "stream")
	Refused      = counters("ehi_refused_total", "Requests refused by a limit: queue, client, stored, disk, stopping, polls.", "limit")

	Workers     = gauges("ehi_workers", "Workers of this process, by lane.", "lane")
	WorkersBusy = gauges("ehi_workers_busy", "Workers of this process that have a command in hand, by lane.", "lane")
	BulkYielded = counter("ehi_bulk_yielded_seconds_total", "Time that tasks of population exports waited for patients' exports to go first.")
	TasksEnded  = counters("ehi_tasks_ended_total", "Export tasks by outcome: committed, superseded, cancelled, handed-back (the process stopped), error.", "outcome")

	PipelineResources = counters("ehi_pipeline_resources_total", "Resources written to export files, by type (by-patient: files organized by patient).", "type")
	PipelineBytes     = counters("ehi_pipeline_bytes_total", "Bytes written to export files, by type.", "type")
	PipelineWithheld  = counters("ehi_pipeline_withheld_total", "Resources that the release form kept out, by reason.", "reason")
	MailboxDepth      = gauges("ehi_mailbox_slabs", "Slabs waiting in the mailboxes of all running pipelines, by receiving actor.", "actor")
	MailboxBlocked    = counters("ehi_mailbox_blocked_seconds_total", "Time that senders waited for room in a mailbox, by receiving actor.", "actor")
	CommitSeconds     = histogram("ehi_files_commit_duration_seconds", "Time to make one task's files durable.")

	TokensIssued  = counters("ehi_auth_tokens_issued_total", "Access tokens issued, by grant type.", "grant")
	TokensRefused = counters("ehi_auth_tokens_refused_total", "Token requests refused, by OAuth error code.", "error")

	Logins = counters("ehi_logins_total", "Log-ins on a page, by page (admin, patient) and outcome (ok, refused).", "page", "outcome")

	JanitorRemoved        = counters("ehi_janitor_removed_total", "What the janitor removed: expired jobs (job), files that no record names (file), records of tasks whose job is gone (record).", "kind")
	ReconcilerRepublished = counter("ehi_reconciler_republished_total", "Start commands that were lost and published again.")

	buildInfo = gauges("ehi_build_info", "1, labelled with the running build.", "version", "go")
)

func init() {
	Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	buildInfo.WithLabelValues(Version(), runtime.Version()).Set(1)
	// A counter that first appears with its first event shows no increase: these are there from the start, at 0.
	for c, values := range map[*prometheus.CounterVec][]string{
		JobsCreated: {"interactive", "bulk"}, JobsEnded: {"retrieved", "approved", "rejected", "failed"}, JanitorRemoved: {"job", "file", "record"},
		TasksEnded: {"committed", "superseded", "cancelled", "handed-back", "error"}, Refused: {"queue", "client", "stored", "disk", "stopping", "polls"},
	} {
		for _, v := range values {
			c.WithLabelValues(v)
		}
	}
	for _, page := range []string{"admin", "patient"} {
		Logins.WithLabelValues(page, "ok")
		Logins.WithLabelValues(page, "refused")
	}
}
