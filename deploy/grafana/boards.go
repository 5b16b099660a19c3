package grafana

// Boards lists the dashboards.
func Boards() []Board { return []Board{overview, queue, pipeline, state, access} }

const (
	requestRate = `sum by (route) (rate(ehi_http_requests_total{instance=~"$instance"}[$__rate_interval]))`
)

var overview = Board{
	ID: "ehi-overview", Title: "EHI: overview", About: "Is it working, how fast, and who waits?",
	Panels: []Panel{
		{Title: "What is asked of it?", About: "Requests a second by route template.", Unit: "reqps", Stacked: true, Queries: []Query{{Expr: requestRate, Legend: "{{route}}"}}},
		{Title: "What goes wrong?", About: "Answers that are the server's fault (5xx but for the 503 of a limit), and refusals by limit. Errors are in the log; refusals name the limit to raise or the client to slow down.", Unit: "reqps", Bad: 0.1,
			Queries: []Query{
				{Expr: `sum by (route) (rate(ehi_http_requests_total{instance=~"$instance", status=~"5..", status!="503"}[$__rate_interval]))`, Legend: "error {{route}}", Idle: true},
				{Expr: `sum by (limit) (rate(ehi_refused_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "refused: {{limit}}"},
			}},
		{Title: "How long does a client wait for an answer?", About: "The slowest of a hundred answers by route. Status polls above 50 ms mean that something takes the processors or NATS is slow.", Unit: "s", Warn: 0.05, Bad: 0.25,
			Queries: []Query{{Expr: `histogram_quantile(0.99, sum by (route, le) (rate(ehi_http_request_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))`, Legend: "p99 {{route}}"}}},
		{Title: "Where do the jobs stand?", About: "Kept jobs by status. A growing 'requested' is more work than workers; a growing 'retrieved' waits for people.", Unit: "short", Stacked: true,
			Queries: []Query{{Expr: `max by (status) (ehi_jobs{instance=~"$instance"})`, Legend: "{{status}}"}}},
		{Title: "How many exports are made?", About: "Jobs that ended, a second, by how. 'failed' is for somebody to look at.", Unit: "ops",
			Queries: []Query{{Expr: `sum by (status) (rate(ehi_jobs_ended_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{status}}"}}},
		{Title: "How long does an export take?", About: "From its request to its last committed task: median and the slowest of a hundred, by lane.", Unit: "s", Warn: 30,
			Queries: []Query{
				{Expr: `histogram_quantile(0.5, sum by (lane, le) (rate(ehi_job_export_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))`, Legend: "p50 {{lane}}"},
				{Expr: `histogram_quantile(0.99, sum by (lane, le) (rate(ehi_job_export_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))`, Legend: "p99 {{lane}}"},
			}},
		{Title: "How much is written?", About: "Bytes of lines a second, by resource type.", Unit: "Bps", Stacked: true,
			Queries: []Query{{Expr: `sum by (type) (rate(ehi_pipeline_bytes_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{type}}"}}},
		{Title: "How long has the oldest job been there?", About: "By status. 'requested' is the age at which somebody waits for a machine, 'retrieved' for an administrator.", Unit: "s",
			Queries: []Query{{Expr: `max by (status) (ehi_job_oldest_seconds{instance=~"$instance"})`, Legend: "{{status}}"}}},
	},
}

var queue = Board{
	ID: "ehi-queue", Title: "EHI: queue and workers", About: "Does the work get done, and by whom?",
	Panels: []Panel{
		{Title: "How much waits?", About: "Commands that no worker has finished, by lane.", Unit: "short", Queries: []Query{{Expr: `max by (lane) (ehi_queue_pending{instance=~"$instance"})`, Legend: "{{lane}}"}}},
		{Title: "How long has the oldest command waited?", About: "Above five minutes an alert fires.", Unit: "s", Warn: 60, Bad: 300, Queries: []Query{{Expr: `max by (lane) (ehi_queue_oldest_seconds{instance=~"$instance"})`, Legend: "{{lane}}"}}},
		{Title: "How busy are the workers?", About: "The share of workers that have a command in hand, by lane and instance. At 1 more workers would help, if there are processors for them.", Unit: "percentunit", Warn: 0.9,
			Queries: []Query{{Expr: `ehi_workers_busy{instance=~"$instance"} / (ehi_workers{instance=~"$instance"} > 0)`, Legend: "{{lane}} {{instance}}"}}},
		{Title: "What comes of the tasks?", About: "A second, by outcome. 'superseded' and 'error' are work done twice.", Unit: "ops", Queries: []Query{{Expr: `sum by (outcome) (rate(ehi_tasks_ended_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{outcome}}"}}},
		{Title: "What is begun anew or given up?", About: "Commands that came again, that the reconciler published again, and that were given up.", Unit: "ops", Bad: 0.2,
			Queries: []Query{
				{Expr: `sum(rate(ehi_commands_redelivered_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "redelivered"},
				{Expr: `sum(rate(ehi_reconciler_republished_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "published again"},
				{Expr: `sum(rate(ehi_commands_dead_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "given up"},
			}},
		{Title: "What has the janitor removed?", About: "A second, by kind. Files and records are the remains of processes that died.", Unit: "ops", Queries: []Query{{Expr: `sum by (kind) (rate(ehi_janitor_removed_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{kind}}"}}},
	},
}

var pipeline = Board{
	ID: "ehi-pipeline", Title: "EHI: pipeline", About: "What limits an export?",
	Panels: []Panel{
		{Title: "Which actor holds the others up?", About: "Seconds a second that senders waited for room in an actor's mailbox: the actor with the most is the bottleneck. Where none waits, the source is.", Unit: "percentunit",
			Queries: []Query{{Expr: `sum by (actor) (rate(ehi_mailbox_blocked_seconds_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{actor}}"}}},
		{Title: "What lies in the mailboxes?", About: "Slabs of up to 256 KiB, by receiving actor.", Unit: "short", Queries: []Query{{Expr: `sum by (actor) (ehi_mailbox_slabs{instance=~"$instance"})`, Legend: "{{actor}}"}}},
		{Title: "How many resources are written?", About: "A second, by type.", Unit: "ops", Stacked: true, Queries: []Query{{Expr: `sum by (type) (rate(ehi_pipeline_resources_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{type}}"}}},
		{Title: "How long does the disk take to make a task durable?", About: "Median and the slowest of a hundred. Above 50 ms the disk is what limits.", Unit: "s", Warn: 0.05, Bad: 0.5,
			Queries: []Query{
				{Expr: `histogram_quantile(0.5, sum by (le) (rate(ehi_files_commit_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))`, Legend: "p50"},
				{Expr: `histogram_quantile(0.99, sum by (le) (rate(ehi_files_commit_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))`, Legend: "p99"},
			}},
		{Title: "What is withheld?", About: "Resources a second that a release form kept out, by reason.", Unit: "ops", Queries: []Query{{Expr: `sum by (reason) (rate(ehi_pipeline_withheld_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{reason}}", Idle: true}}},
		{Title: "How much do populations wait for patients?", About: "Seconds a second that tasks of populations let patients' exports go first.", Unit: "percentunit", Queries: []Query{{Expr: `sum(rate(ehi_bulk_yielded_seconds_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "waited"}}},
	},
}

var state = Board{
	ID: "ehi-state", Title: "EHI: state, disk and process", About: "What is held, and is there room?",
	Panels: []Panel{
		{Title: "How much do the exports take?", About: "Bytes that the file store keeps, by the jobs' records.", Unit: "bytes", Queries: []Query{{Expr: `max(ehi_export_stored_bytes{instance=~"$instance"})`, Legend: "stored"}}},
		{Title: "How much room is left?", About: "On the disk of the exports. Below --min-free-bytes kick-offs are refused.", Unit: "bytes", Queries: []Query{{Expr: `min by (instance) (ehi_export_free_bytes{instance=~"$instance"})`, Legend: "{{instance}}"}}},
		{Title: "How large is the state?", About: "Bytes of each stream of JetStream: commands and records.", Unit: "bytes", Stacked: true, Queries: []Query{{Expr: `max by (stream) (ehi_state_bytes{instance=~"$instance"})`, Legend: "{{stream}}"}}},
		{Title: "How many records are there?", About: "Messages of each stream, tombstones included, which go after a minute.", Unit: "short", Queries: []Query{{Expr: `max by (stream) (ehi_state_records{instance=~"$instance"})`, Legend: "{{stream}}"}}},
		{Title: "Did exports wait for space?", About: "Exports a second that met a full disk.", Unit: "ops", Bad: 0.001, Queries: []Query{{Expr: `sum(rate(ehi_disk_full_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "met a full disk"}}},
		{Title: "How much memory does it take?", About: "Resident, by instance.", Unit: "bytes", Queries: []Query{{Expr: `process_resident_memory_bytes{instance=~"$instance"}`, Legend: "{{instance}}"}}},
		{Title: "How many processors does it use?", About: "By instance.", Unit: "short", Queries: []Query{{Expr: `rate(process_cpu_seconds_total{instance=~"$instance"}[$__rate_interval])`, Legend: "{{instance}}"}}},
		{Title: "Does anything pile up?", About: "Goroutines and open files, by instance: flat under a steady load.", Unit: "short",
			Queries: []Query{
				{Expr: `go_goroutines{instance=~"$instance"}`, Legend: "goroutines {{instance}}"},
				{Expr: `process_open_fds{instance=~"$instance"}`, Legend: "open files {{instance}}"},
			}},
	},
}

var access = Board{
	ID: "ehi-access", Title: "EHI: access and limits", About: "Who comes in, who is kept out, and which limit is met?",
	Panels: []Panel{
		{Title: "What tokens are given out?", About: "A second, by grant.", Unit: "ops", Queries: []Query{{Expr: `sum by (grant) (rate(ehi_auth_tokens_issued_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{grant}}"}}},
		{Title: "What token requests are refused?", About: "A second, by OAuth error. A burst of invalid_grant or invalid_client is a misconfigured client, or somebody who guesses.", Unit: "ops", Warn: 1, Queries: []Query{{Expr: `sum by (error) (rate(ehi_auth_tokens_refused_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{error}}", Idle: true}}},
		{Title: "Who logs in?", About: "A second, by page and outcome.", Unit: "ops", Queries: []Query{{Expr: `sum by (page, outcome) (rate(ehi_logins_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{page}} {{outcome}}"}}},
		{Title: "Which limit is met?", About: "Requests a second refused by a limit: queue (--max-queue), client (--client-jobs), stored (--max-export-bytes), disk (--min-free-bytes), polls (--poll-burst), stopping.", Unit: "ops", Queries: []Query{{Expr: `sum by (limit) (rate(ehi_refused_total{instance=~"$instance"}[$__rate_interval]))`, Legend: "{{limit}}"}}},
	},
}
