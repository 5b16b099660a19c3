package telemetry

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Registry holds every metric of the process; GET /metrics serves it.
var Registry = prometheus.NewRegistry()

var factory = promauto.With(Registry)

// Buckets for latencies: from 100 microseconds to 60 seconds.
var seconds = []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// The metrics, by Prometheus' conventions: base units, ehi_ prefix, labels of bounded cardinality only (never an id or a
// path with an id in it).
var (
	HTTPRequests = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_http_requests_total", Help: "HTTP requests answered, by route template, method and status."},
		[]string{"route", "method", "status"})
	HTTPSeconds = factory.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ehi_http_request_duration_seconds", Help: "Time from the request's headers to the answer's, by route template.", Buckets: seconds},
		[]string{"route", "method"})
	HTTPInFlight = factory.NewGauge(prometheus.GaugeOpts{
		Name: "ehi_http_requests_in_flight", Help: "HTTP requests being answered."})

	JobsCreated = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_jobs_created_total", Help: "Export jobs kicked off, by lane."}, []string{"lane"})
	JobsEnded = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_jobs_ended_total", Help: "Export jobs that reached a status that ends the server's work, by that status."},
		[]string{"status"})
	DiskFull = factory.NewCounter(prometheus.CounterOpts{
		Name: "ehi_disk_full_total", Help: "Exports that had to wait because the disk was full."})
	Jobs = factory.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ehi_jobs", Help: "Export jobs kept, by status."}, []string{"status"})
	ExportBytes = factory.NewGauge(prometheus.GaugeOpts{
		Name: "ehi_export_stored_bytes", Help: "Bytes that the file store keeps of all jobs, by their records."})
	JobSeconds = factory.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ehi_job_export_duration_seconds", Help: "Time from the request of an export to its last committed task, by lane.", Buckets: seconds}, []string{"lane"})

	CommandsPublished = factory.NewCounter(prometheus.CounterOpts{
		Name: "ehi_commands_published_total", Help: "Commands published to JetStream: starts of jobs and tasks of populations."})
	CommandsRedelivered = factory.NewCounter(prometheus.CounterOpts{
		Name: "ehi_commands_redelivered_total", Help: "Commands that a worker received for the second time or later."})
	CommandsDead = factory.NewCounter(prometheus.CounterOpts{
		Name: "ehi_commands_dead_total", Help: "Commands given up after their last delivery; their jobs are failed."})
	QueuePending = factory.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ehi_queue_pending", Help: "Commands that no worker has finished, by lane."}, []string{"lane"})

	Workers = factory.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ehi_workers", Help: "Workers of this process, by lane."}, []string{"lane"})
	WorkersBusy = factory.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ehi_workers_busy", Help: "Workers of this process that have a command in hand, by lane."}, []string{"lane"})
	BulkYielded = factory.NewCounter(prometheus.CounterOpts{
		Name: "ehi_bulk_yielded_seconds_total", Help: "Time that tasks of population exports waited for patients' exports to go first."})
	TasksEnded = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_tasks_ended_total", Help: "Export tasks by outcome: committed, superseded, cancelled, handed-back (the process stopped), error."}, []string{"outcome"})

	PipelineResources = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_pipeline_resources_total", Help: "Resources written to export files, by type (by-patient: files organized by patient)."}, []string{"type"})
	PipelineBytes = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_pipeline_bytes_total", Help: "Bytes written to export files, by type."}, []string{"type"})
	PipelineWithheld = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_pipeline_withheld_total", Help: "Resources that the release form kept out, by reason."}, []string{"reason"})
	MailboxDepth = factory.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ehi_mailbox_slabs", Help: "Slabs waiting in the mailboxes of all running pipelines, by receiving actor."}, []string{"actor"})
	MailboxBlocked = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_mailbox_blocked_seconds_total", Help: "Time that senders waited for room in a mailbox, by receiving actor."}, []string{"actor"})
	CommitSeconds = factory.NewHistogram(prometheus.HistogramOpts{
		Name: "ehi_files_commit_duration_seconds", Help: "Time to make one task's files durable.", Buckets: seconds})

	TokensIssued = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_auth_tokens_issued_total", Help: "Access tokens issued, by grant type."}, []string{"grant"})
	TokensRefused = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_auth_tokens_refused_total", Help: "Token requests refused, by OAuth error code."}, []string{"error"})

	JanitorRemoved = factory.NewCounterVec(prometheus.CounterOpts{
		Name: "ehi_janitor_removed_total", Help: "What the janitor removed: expired jobs (job), files that no record names (file), records of tasks whose job is gone (record)."}, []string{"kind"})
	ReconcilerRepublished = factory.NewCounter(prometheus.CounterOpts{
		Name: "ehi_reconciler_republished_total", Help: "Start commands that were lost and published again."})

	buildInfo = factory.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ehi_build_info", Help: "1, labelled with the running build."}, []string{"version", "go"})
)

func init() {
	Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	buildInfo.WithLabelValues(Version(), runtime.Version()).Set(1)
}
