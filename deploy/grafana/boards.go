package grafana

import "fmt"

// Boards lists the dashboards.
func Boards() []Board { return []Board{overview, queue, pipeline, state, access, benchmark} }

// rate returns the increase of a counter per second, summed by the labels by. where narrows the
// chosen instances further.
func rate(metric, by, where string) string {
	return fmt.Sprintf(`sum by (%s) (rate(%s{instance=~"$instance"%s}[$__rate_interval]))`, by,
		metric, where)
}

// quantile returns a quantile of a histogram, by the labels by. A Prometheus that scrapes native
// histograms stores no classic ones by default, so the query reads either.
func quantile(q, metric, by, chosen string) string {
	return fmt.Sprintf(`histogram_quantile(%[1]s, sum by (%[3]s, le) `+
		`(rate(%[2]s_bucket{%[4]s}[$__rate_interval]))) or histogram_quantile(%[1]s, sum by `+
		`(%[3]s) (rate(%[2]s{%[4]s}[$__rate_interval])))`,
		q, metric, by, chosen)
}

// quantiles returns queries for the median and the 99th percentile of a histogram.
func quantiles(metric, by, where, legend string) []Query {
	chosen := `instance=~"$instance"` + where
	return []Query{
		{Expr: quantile("0.5", metric, by, chosen), Legend: "p50 " + legend},
		{Expr: quantile("0.99", metric, by, chosen), Legend: "p99 " + legend},
	}
}

const ofLane = `, lane=~"$lane"`

var overview = Board{
	ID: "ehi-overview", Title: "EHI: overview", About: "Is it working, how fast, and who waits?",
	Panels: []Panel{
		{
			Title:   "What is asked of it?",
			About:   "Requests a second by route template.",
			Unit:    "reqps",
			Stacked: true,
			Queries: []Query{
				{Expr: rate("ehi_http_requests_total", "route", ""), Legend: "{{route}}"},
			},
		},
		{
			Title: "What goes wrong?",
			About: "Answers that are the server's fault (5xx but for the 503 of a limit), and " +
				"refusals by limit. Errors are in the log; refusals name the limit to raise or " +
				"the client to slow down.",
			Unit: "reqps",
			Bad:  0.1,
			Queries: []Query{
				{
					Expr: rate("ehi_http_requests_total", "route",
						`, status=~"5..", status!="503"`),
					Legend: "error {{route}}",
					Idle:   true,
				},
				{Expr: rate("ehi_refused_total", "limit", ""), Legend: "refused: {{limit}}"},
			},
		},
		{
			Title: "How long does a client wait for an answer?",
			About: "The slowest of a hundred answers by route. Status polls above 50 ms mean " +
				"that something takes the processors or NATS is slow.",
			Unit: "s",
			Warn: 0.05,
			Bad:  0.25,
			Queries: []Query{
				{
					Expr: quantile("0.99", "ehi_http_request_duration_seconds", "route",
						`instance=~"$instance"`),
					Legend: "p99 {{route}}",
				},
			},
		},
		{
			Title: "Where do the jobs stand?",
			About: "Kept jobs by status. A growing 'requested' is more work than workers; a " +
				"growing 'retrieved' waits for people.",
			Unit:    "short",
			Stacked: true,
			Queries: []Query{
				{Expr: `max by (status) (ehi_jobs{instance=~"$instance"})`, Legend: "{{status}}"},
			},
		},
		{
			Title: "How many exports are asked for and made?",
			About: "Jobs that were kicked off and that ended, a second, by kind. 'failed' is for " +
				"somebody to look at.",
			Unit: "ops",
			Queries: []Query{
				{Expr: rate("ehi_jobs_created_total", "kind", ""), Legend: "kicked off: {{kind}}"},
				{
					Expr:   rate("ehi_jobs_ended_total", "kind, status", "") + " > 0",
					Legend: "{{status}}: {{kind}}",
				},
			},
		},
		{
			Title: "How long does an export take?",
			About: "From its request to its last committed task: median and the slowest of a " +
				"hundred, by lane.",
			Unit:    "s",
			Warn:    30,
			Queries: quantiles("ehi_job_export_duration_seconds", "lane", "", "{{lane}}"),
		},
		{
			Title: "Where does the time of a job go?",
			About: "Median of each phase: form and review are people's, queue says whether " +
				"there are enough workers, export is the work itself.",
			Unit: "s",
			Queries: []Query{
				{
					Expr: quantile("0.5", "ehi_job_phase_duration_seconds", "phase, lane",
						`instance=~"$instance"`),
					Legend: "{{phase}} {{lane}}",
				},
			},
		},
		{
			Title: "How long has the oldest job been there?",
			About: "By status. 'requested' is the age at which somebody waits for a machine, " +
				"'retrieved' for an administrator.",
			Unit: "s",
			Queries: []Query{
				{
					Expr:   `max by (status) (ehi_job_oldest_seconds{instance=~"$instance"})`,
					Legend: "{{status}}",
				},
			},
		},
		{
			Title:   "How much is written?",
			About:   "Bytes of lines a second, by resource type.",
			Unit:    "Bps",
			Stacked: true,
			Queries: []Query{
				{Expr: rate("ehi_pipeline_bytes_total", "type", ""), Legend: "{{type}}"},
			},
		},
		{
			Title: "How much goes over the network?",
			About: "Bytes a second, in and out, heads included.",
			Unit:  "Bps",
			Queries: []Query{
				{
					Expr:   rate("ehi_http_sent_bytes_total", "instance", ""),
					Legend: "sent {{instance}}",
				},
				{
					Expr:   rate("ehi_http_received_bytes_total", "instance", ""),
					Legend: "received {{instance}}",
				},
			},
		},
		{
			Title: "How many clients are connected?",
			About: "Open connections, requests that are being answered, and status requests that " +
				"are held until their job changes. At --max-connections further ones are refused.",
			Unit: "short",
			Queries: []Query{
				{
					Expr:   `ehi_http_connections{instance=~"$instance"}`,
					Legend: "connections {{instance}}",
				},
				{
					Expr:   `ehi_http_requests_in_flight{instance=~"$instance"}`,
					Legend: "requests {{instance}}",
				},
				{
					Expr:   `ehi_http_requests_held{instance=~"$instance"}`,
					Legend: "held {{instance}}",
				},
			},
		},
		{
			Title: "How long are status requests held?",
			About: "Median and the slowest of a hundred, by what ended it: news (of the job), " +
				"time (--hold, or the client's own), stop, gone (the client). It is no part of " +
				"the time that a client waits for an answer.",
			Unit: "s", Queries: quantiles("ehi_http_held_duration_seconds", "end", "", "{{end}}"),
		},
	},
}

var queue = Board{
	ID: "ehi-queue", Title: "EHI: queue and workers", About: "Does the work get done, and by whom?",
	Panels: []Panel{
		{
			Title: "How much waits?",
			About: "Commands that no worker has finished, and those in the hands of one, by lane.",
			Unit:  "short",
			Queries: []Query{
				{
					Expr: `max by (lane) (ehi_queue_pending{instance=~"$instance", ` +
						`lane=~"$lane"})`,
					Legend: "not finished {{lane}}",
				},
				{
					Expr: `max by (lane) (ehi_queue_in_hand{instance=~"$instance", ` +
						`lane=~"$lane"})`,
					Legend: "in hand {{lane}}",
				},
			},
		},
		{
			Title: "How long has the oldest command waited?",
			About: "Above five minutes an alert fires.",
			Unit:  "s",
			Warn:  60,
			Bad:   300,
			Queries: []Query{
				{
					Expr: `max by (lane) (ehi_queue_oldest_seconds{instance=~"$instance", ` +
						`lane=~"$lane"})`,
					Legend: "{{lane}}",
				},
			},
		},
		{
			Title: "How long does a job wait for a worker?",
			About: "From its request until a worker first takes it: median and the slowest of " +
				"a hundred. Where this grows, more workers would help, if there are processors " +
				"for them.",
			Unit: "s",
			Warn: 5,
			Bad:  60,
			Queries: quantiles("ehi_job_phase_duration_seconds", "lane", `, phase="queue"`+ofLane,
				"{{lane}}"),
		},
		{
			Title: "How busy are the workers?",
			About: "The share of workers that have a command in hand, by lane and instance. At " +
				"1 more workers would help, if there are processors for them.",
			Unit: "percentunit",
			Warn: 0.9,
			Queries: []Query{
				{
					Expr: `ehi_workers_busy{instance=~"$instance", lane=~"$lane"} / ` +
						`(ehi_workers{instance=~"$instance", lane=~"$lane"} > 0)`,
					Legend: "{{lane}} {{instance}}",
				},
			},
		},
		{
			Title: "How many workers wait for work?",
			About: "Of all processes, as NATS knows them, by lane. None for long means that " +
				"all are busy, or gone.",
			Unit: "short",
			Queries: []Query{
				{
					Expr: `max by (lane) (ehi_queue_waiting_workers{instance=~"$instance", ` +
						`lane=~"$lane"})`,
					Legend: "{{lane}}",
				},
			},
		},
		{
			Title: "Which exporters belong to the server?",
			About: "Exporters that have joined, stand-alone ones and those within servers. Those " +
				"that do not belong take no commands; the system page says why.",
			Unit: "short",
			Queries: []Query{
				{
					Expr:   `max by (belongs) (ehi_exporters{instance=~"$instance"})`,
					Legend: "belong: {{belongs}}",
				},
				{
					Expr:   `ehi_exporter_mismatch{instance=~"$instance"} > 0`,
					Legend: "{{instance}} differs in {{trait}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "Do commands come and go at the same rate?",
			About: "Published and acknowledged, a second, by lane. Where more come than go the " +
				"queue grows.",
			Unit: "ops",
			Queries: []Query{
				{
					Expr:   rate("ehi_commands_published_total", "lane, kind", ofLane),
					Legend: "published {{kind}} {{lane}}",
				},
				{Expr: rate("ehi_commands_done_total", "lane", ofLane), Legend: "done {{lane}}"},
			},
		},
		{
			Title: "What comes of the tasks?",
			About: "A second, by outcome. 'superseded' and 'error' are work done twice.",
			Unit:  "ops",
			Queries: []Query{
				{Expr: rate("ehi_tasks_ended_total", "outcome", ""), Legend: "{{outcome}}"},
			},
		},
		{
			Title: "What is begun anew or given up?",
			About: "Commands that came again, that the reconciler published again, and that were " +
				"given up.",
			Unit: "ops",
			Bad:  0.2,
			Queries: []Query{
				{
					Expr:   rate("ehi_commands_redelivered_total", "lane", ofLane),
					Legend: "redelivered {{lane}}",
				},
				{
					Expr:   rate("ehi_reconciler_republished_total", "instance", ""),
					Legend: "published again {{instance}}",
				},
				{
					Expr:   rate("ehi_commands_dead_total", "instance", ""),
					Legend: "given up {{instance}}",
				},
			},
		},
		{
			Title: "What has the keeper removed?",
			About: "A second, by kind. Files and records are the remains of processes that died.",
			Unit:  "ops",
			Queries: []Query{
				{Expr: rate("ehi_janitor_removed_total", "kind", ""), Legend: "{{kind}}"},
			},
		},
		{
			Title: "What does the keeper keep that no record names?",
			About: "Jobs with files and without a record, for --orphan-grace. Where it stopped, " +
				"it waits for an administrator's word (/admin/sweep).",
			Unit: "short",
			Bad:  1,
			Queries: []Query{
				{
					Expr: `sum by (instance) ` +
						`(ehi_janitor_quarantined_jobs{instance=~"$instance"})`,
					Legend: "kept {{instance}}",
				},
				{
					Expr:   `max by (instance) (ehi_janitor_stopped{instance=~"$instance"})`,
					Legend: "stopped {{instance}}",
				},
			},
		},
		{
			Title: "Did a start miss a part of the state?",
			About: "Streams and buckets of which records were missing that were there at the " +
				"last stop. The log says which, and how many.",
			Unit: "short",
			Bad:  1,
			Queries: []Query{
				{
					Expr:   `sum by (instance) (ehi_state_lost_total{instance=~"$instance"})`,
					Legend: "{{instance}}",
				},
			},
		},
		{
			Title: "Are files of exports damaged?",
			About: "Files that are not there or not what was written: those known now, and those " +
				"found in ten minutes, by kind. The log names the exports; they have to be made " +
				"again.",
			Unit: "short",
			Bad:  1,
			Queries: []Query{
				{
					Expr:   `max by (instance) (ehi_damaged_files{instance=~"$instance"})`,
					Legend: "known {{instance}}",
				},
				{
					Expr: `sum by (kind) ` +
						`(increase(ehi_files_damaged_total{instance=~"$instance"}[10m]))`,
					Legend: "{{kind}}",
				},
			},
		},
		{
			Title: "Does the scrubber get through?",
			About: "Files of finished exports that are read again, a second, and the time since " +
				"the last whole round; of the processes on one disk one works.",
			Unit: "short",
			Queries: []Query{
				{
					Expr:   rate("ehi_scrubbed_files_total", "instance", ""),
					Legend: "files {{instance}}",
				},
				{
					Expr:   `(time() - max(ehi_scrub_round_timestamp_seconds{instance=~"$instance"} > 0)) / 3600`,
					Legend: "hours since the last round",
				},
			},
		},
		{
			Title: "How much does the scrubber read?",
			About: "Bytes a second, at most --scrub-rate.",
			Unit:  "Bps",
			Queries: []Query{
				{Expr: rate("ehi_scrubbed_bytes_total", "instance", ""), Legend: "{{instance}}"},
			},
		},
		{
			Title: "Does the embedded NATS complain?",
			About: "Its warnings and errors in ten minutes; the log has them. A few warnings " +
				"after a kill are normal, others want a look at the disk.",
			Unit: "short",
			Warn: 1,
			Queries: []Query{
				{
					Expr: `sum by (instance, level) ` +
						`(increase(ehi_nats_log_total{instance=~"$instance"}[10m]))`,
					Legend: "{{level}} {{instance}}",
				},
			},
		},
		{Title: "Are lines of the log dropped?", Unit: "short", Bad: 1,
			About: "In ten minutes. Whoever reads standard error is too slow, or hangs; the " +
				"server does not wait.",
			Queries: []Query{{
				Expr: `sum by (instance) ` +
					`(increase(ehi_log_dropped_total{instance=~"$instance"}[10m]))`,
				Legend: "{{instance}}",
			}}},
		{
			Title: "Does the keeper keep up?",
			About: "Time of a round of the keeper, and since the last one without " +
				"an error; after two minutes an alert fires.",
			Unit: "s",
			Warn: 60,
			Bad:  120,
			Queries: append(quantiles("ehi_keeper_round_duration_seconds", "instance", "",
				"{{instance}}"), Query{
				Expr:   `time() - ehi_keeper_success_timestamp_seconds{instance=~"$instance"}`,
				Legend: "since the last {{instance}}",
			}),
		},
		{
			Title: "Do rounds of the keeper fail?",
			About: "A second. The log says why, as 'keeper round'.",
			Unit:  "ops",
			Bad:   0.001,
			Queries: []Query{
				{
					Expr:   rate("ehi_keeper_rounds_failed_total", "instance", ""),
					Legend: "failed {{instance}}",
				},
			},
		},
	},
}

var pipeline = Board{
	ID: "ehi-pipeline", Title: "EHI: pipeline", About: "What limits an export?",
	Panels: []Panel{
		{
			Title: "Which actor holds the others up?",
			About: "Seconds a second that senders waited for room in an actor's mailbox: the " +
				"actor with the most is the bottleneck. Where none waits, the source is.",
			Unit: "percentunit",
			Queries: []Query{
				{Expr: rate("ehi_mailbox_blocked_seconds_total", "actor", ""), Legend: "{{actor}}"},
			},
		},
		{
			Title: "How full are the mailboxes?",
			About: "Share of their room that is taken, by receiving actor. Full ones are " +
				"before the bottleneck, empty ones behind it; above 1 senders wait for room.",
			Unit: "percentunit",
			Warn: 0.9,
			Queries: []Query{
				{
					Expr: `sum by (actor) (ehi_mailbox_slabs{instance=~"$instance"}) / (sum by ` +
						`(actor) (ehi_mailbox_capacity_slabs{instance=~"$instance"}) > 0)`,
					Legend: "{{actor}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "How many slabs pass?",
			About: "Slabs of up to 256 KiB that an actor received, a second.",
			Unit:  "ops",
			Queries: []Query{
				{Expr: rate("ehi_pipeline_slabs_total", "actor", ""), Legend: "{{actor}}"},
			},
		},
		{
			Title: "How fast is the source?",
			About: "Resources read a second, withheld ones included, beside those written.",
			Unit:  "ops",
			Queries: []Query{
				{
					Expr:   rate("ehi_source_resources_total", "instance", ""),
					Legend: "read {{instance}}",
				},
				{
					Expr:   rate("ehi_pipeline_resources_total", "instance", ""),
					Legend: "written {{instance}}",
				},
			},
		},
		{
			Title: "How long until a record can be read?",
			About: "Time that the source takes to have a record, or a part of a population, " +
				"ready.",
			Unit:    "s",
			Warn:    0.1,
			Queries: quantiles("ehi_source_open_duration_seconds", "instance", "", "{{instance}}"),
		},
		{
			Title:   "How many resources are written?",
			About:   "A second, by type.",
			Unit:    "ops",
			Stacked: true,
			Queries: []Query{
				{
					Expr:   rate("ehi_pipeline_resources_total", "type", `, type=~"$type"`),
					Legend: "{{type}}",
				},
			},
		},
		{
			Title:   "How many bytes are written?",
			About:   "A second, by type, before compression.",
			Unit:    "Bps",
			Stacked: true,
			Queries: []Query{
				{
					Expr:   rate("ehi_pipeline_bytes_total", "type", `, type=~"$type"`),
					Legend: "{{type}}",
				},
			},
		},
		{
			Title: "How long does a writer take over a slab?",
			About: "Compression included. Long writes without long syncs are the processors' " +
				"or the page cache's.",
			Unit:    "s",
			Warn:    0.01,
			Queries: quantiles("ehi_files_write_duration_seconds", "instance", "", "{{instance}}"),
		},
		{
			Title: "How long does the disk take to sync?",
			About: "A file of its own, a segment of small ones, the folder. Above 50 ms the " +
				"disk is what limits.",
			Unit:    "s",
			Warn:    0.05,
			Bad:     0.5,
			Queries: quantiles("ehi_files_sync_duration_seconds", "what", "", "{{what}}"),
		},
		{
			Title:   "How long does the disk take to make a task durable?",
			About:   "All of a task's files and their folder.",
			Unit:    "s",
			Warn:    0.05,
			Bad:     0.5,
			Queries: quantiles("ehi_files_commit_duration_seconds", "instance", "", "{{instance}}"),
		},
		{
			Title: "What is withheld?",
			About: "Resources a second that a release form kept out, by the kind of reason.",
			Unit:  "ops",
			Queries: []Query{
				{
					Expr:   rate("ehi_pipeline_withheld_total", "reason", ""),
					Legend: "{{reason}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "How much native content is exported?",
			About: "Bytes a second of documents and tables, by way: linked (shared with the " +
				"record store) or written.",
			Unit: "Bps",
			Queries: []Query{{
				Expr:   rate("ehi_native_bytes_total", "way", ""),
				Legend: "{{way}}",
				Idle:   true,
			}},
		},
		{
			Title: "How many documents, tables and rows are exported?",
			About: "Native files a second, by kind, and rows of tables a second.",
			Unit:  "ops",
			Queries: []Query{
				{
					Expr:   rate("ehi_native_files_total", "kind", ""),
					Legend: "{{kind}}",
					Idle:   true,
				},
				{Expr: rate("ehi_native_rows_total", "", ""), Legend: "row", Idle: true},
			},
		},
		{
			Title: "How much do populations wait for patients?",
			About: "Seconds a second that tasks of populations let patients' exports go first.",
			Unit:  "percentunit",
			Queries: []Query{
				{
					Expr:   rate("ehi_bulk_yielded_seconds_total", "instance", ""),
					Legend: "waited {{instance}}",
				},
			},
		},
	},
}

var state = Board{
	ID:    "ehi-state",
	Title: "EHI: store, JetStream, disk and process",
	About: "What is held, and is there room?",
	Panels: []Panel{
		{
			Title: "How much do the exports take?",
			About: "Bytes that the file store keeps, by the jobs' records.",
			Unit:  "bytes",
			Queries: []Query{
				{Expr: `max(ehi_export_stored_bytes{instance=~"$instance"})`, Legend: "stored"},
			},
		},
		{
			Title: "How many files are there?",
			About: "Of exports and attachments. They go with their jobs.",
			Unit:  "short",
			Queries: []Query{
				{Expr: `max(ehi_export_files{instance=~"$instance"})`, Legend: "files"},
			},
		},
		{
			Title: "How much room is left?",
			About: "On the disk of the exports. Below --min-free-bytes kick-offs are refused.",
			Unit:  "bytes",
			Queries: []Query{
				{
					Expr:   `min by (instance) (ehi_export_free_bytes{instance=~"$instance"})`,
					Legend: "{{instance}}",
				},
			},
		},
		{
			Title: "Did exports wait for space?",
			About: "Exports a second that met a full disk.",
			Unit:  "ops",
			Bad:   0.001,
			Queries: []Query{
				{
					Expr:   rate("ehi_disk_full_total", "instance", ""),
					Legend: "met a full disk {{instance}}",
				},
			},
		},
		{
			Title: "Is the server in rescue mode?",
			About: "1: it gives back and deletes, and takes nothing new. Restarts of the " +
				"embedded NATS beside it are attempts to heal a state that could not be written.",
			Unit: "short",
			Bad:  1,
			Queries: []Query{
				{Expr: `ehi_rescue{instance=~"$instance"}`, Legend: "rescue mode {{instance}}"},
				{
					Expr:   `ehi_nats_restarts_total{instance=~"$instance"}`,
					Legend: "NATS started anew {{instance}}",
				},
			},
		},
		{
			Title:   "How large is the state?",
			About:   "Bytes of each stream of JetStream: commands and records.",
			Unit:    "bytes",
			Stacked: true,
			Queries: []Query{
				{
					Expr:   `max by (stream) (ehi_state_bytes{instance=~"$instance"})`,
					Legend: "{{stream}}",
				},
			},
		},
		{
			Title: "How many records are there?",
			About: "Messages of each stream, tombstones included, which go after a minute.",
			Unit:  "short",
			Queries: []Query{
				{
					Expr:   `max by (stream) (ehi_state_records{instance=~"$instance"})`,
					Legend: "{{stream}}",
				},
			},
		},
		{
			Title: "How large is the record store?",
			About: "Pebble's tables on their disk, and what it has yet to compact.",
			Unit:  "bytes",
			Queries: []Query{
				{Expr: `ehi_store_bytes{instance=~"$instance"}`, Legend: "on disk {{instance}}"},
				{
					Expr:   `ehi_store_compaction_debt_bytes{instance=~"$instance"}`,
					Legend: "to compact {{instance}}",
				},
			},
		},
		{
			Title: "Does the record store's cache help?",
			About: "Share of blocks that were found in memory. Where it is low and the source " +
				"limits, raise --cache-bytes.",
			Unit: "percentunit",
			Queries: []Query{
				{
					Expr: rate("ehi_store_cache_hits_total", "instance", "") + ` / (` +
						rate("ehi_store_cache_hits_total", "instance", "") + ` + ` +
						rate("ehi_store_cache_misses_total", "instance", "") + ` > 0)`,
					Legend: "{{instance}}",
				},
			},
		},
		{
			Title:   "What does the record store keep in memory?",
			About:   "Block cache and memtables.",
			Unit:    "bytes",
			Stacked: true,
			Queries: []Query{
				{
					Expr:   `ehi_store_cache_bytes{instance=~"$instance"}`,
					Legend: "cache {{instance}}",
				},
				{
					Expr:   `ehi_store_memtable_bytes{instance=~"$instance"}`,
					Legend: "memtables {{instance}}",
				},
			},
		},
		{
			Title: "Is the record store in shape?",
			About: "Tables, levels that a look-up visits, snapshots that exports read from, " +
				"compactions a second, damaged files. More than ten levels slow every read down.",
			Unit: "short",
			Queries: []Query{
				{Expr: `ehi_store_tables{instance=~"$instance"}`, Legend: "tables {{instance}}"},
				{
					Expr:   `ehi_store_read_amplification{instance=~"$instance"}`,
					Legend: "levels {{instance}}",
				},
				{
					Expr:   `ehi_store_snapshots{instance=~"$instance"}`,
					Legend: "snapshots {{instance}}",
				},
				{
					Expr:   `ehi_store_damaged_files{instance=~"$instance"}`,
					Legend: "damaged files {{instance}}",
				},
				{
					Expr:   rate("ehi_store_compactions_total", "instance", ""),
					Legend: "compactions {{instance}}",
				},
			},
		},
		{
			Title: "How much memory does it take?",
			About: "Resident, by instance.",
			Unit:  "bytes",
			Queries: []Query{
				{
					Expr:   `process_resident_memory_bytes{instance=~"$instance"}`,
					Legend: "{{instance}}",
				},
			},
		},
		{
			Title: "How many processors does it use?",
			About: "By instance.",
			Unit:  "short",
			Queries: []Query{
				{
					Expr:   `rate(process_cpu_seconds_total{instance=~"$instance"}[$__rate_interval])`,
					Legend: "{{instance}}",
				},
			},
		},
		{
			Title: "Does anything pile up?",
			About: "Goroutines and open files, by instance: flat under a steady load.",
			Unit:  "short",
			Queries: []Query{
				{Expr: `go_goroutines{instance=~"$instance"}`, Legend: "goroutines {{instance}}"},
				{
					Expr:   `process_open_fds{instance=~"$instance"}`,
					Legend: "open files {{instance}}",
				},
			},
		},
	},
}

var access = Board{
	ID:    "ehi-access",
	Title: "EHI: access and abuse",
	About: "Who comes in, who is kept out, and which limit is met?",
	Panels: []Panel{
		{
			Title: "What tokens are given out?",
			About: "A second, by grant.",
			Unit:  "ops",
			Queries: []Query{
				{Expr: rate("ehi_auth_tokens_issued_total", "grant", ""), Legend: "{{grant}}"},
			},
		},
		{
			Title: "What token requests are refused?",
			About: "A second, by grant and OAuth error. A burst of invalid_grant or " +
				"invalid_client is a misconfigured client, or somebody who guesses.",
			Unit: "ops",
			Warn: 1,
			Queries: []Query{
				{
					Expr:   rate("ehi_auth_tokens_refused_total", "grant, error", ""),
					Legend: "{{grant}}: {{error}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "Who logs in?",
			About: "A second, by page and outcome.",
			Unit:  "ops",
			Queries: []Query{
				{
					Expr:   rate("ehi_logins_total", "page, outcome", ""),
					Legend: "{{page}} {{outcome}}",
				},
			},
		},
		{
			Title: "Which limit is met?",
			About: "Requests a second refused by a limit: queue (--max-queue), client " +
				"(--client-jobs), stored (--max-export-bytes), disk (--min-free-bytes), polls " +
				"(--poll-burst), address and connections (connections, --address-connections and " +
				"--max-connections), stopping. holds are status requests that were answered at " +
				"once because others were held (--max-held).",
			Unit: "ops",
			Queries: []Query{
				{Expr: rate("ehi_refused_total", "limit", ""), Legend: "{{limit}}"},
				{
					Expr:   rate("ehi_http_holds_refused_total", "instance", ""),
					Legend: "holds {{instance}}",
				},
			},
		},
		{
			Title: "Is a quota used up?",
			About: "Kick-offs and forms a second answered 429 because a quota was used up: " +
				"--client-kickoffs, --patient-kickoffs, --client-exports, --patient-exports, " +
				"--client-bytes, --patient-bytes.",
			Unit: "ops",
			Queries: []Query{
				{Expr: rate("ehi_quota_refused_total", "quota", ""), Legend: "{{quota}}"},
			},
		},
		{
			Title: "How much of the quotas is used?",
			About: "Share of each quota that whoever was last counted against it has used. " +
				"Near 1 clients are about to be refused.",
			Unit: "percentunit",
			Warn: 0.9,
			Queries: []Query{
				{
					Expr:   `max by (quota) (ehi_quota_use_ratio{instance=~"$instance"})`,
					Legend: "{{quota}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "What counts against the quotas?",
			About: "Kick-offs and exports a second, by quota.",
			Unit:  "ops",
			Queries: []Query{
				{
					Expr:   rate("ehi_quota_counted_total", "quota", ""),
					Legend: "{{quota}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "Are connections closed before their time?",
			About: "Connections a second: idle ones that were closed because --max-connections " +
				"are nearly reached, stalled ones whose client took too little of its answers " +
				"(--write-stall), and broken ones. More than a few are slow clients, or somebody " +
				"who opens connections and says or takes nothing.",
			Unit: "ops",
			Warn: 1,
			Queries: []Query{
				{
					Expr: `sum by (instance) ` +
						`(rate(ehi_http_idle_closed_total{instance=~"$instance"}[$__rate_interval]))`,
					Legend: "idle {{instance}}",
					Idle:   true,
				},
				{
					Expr: `sum by (instance) ` +
						`(rate(ehi_http_stalled_total{instance=~"$instance"}[$__rate_interval]))`,
					Legend: "stalled {{instance}}",
					Idle:   true,
				},
				{
					Expr: `sum by (instance) ` +
						`(rate(ehi_http_broken_total{instance=~"$instance"}[$__rate_interval]))`,
					Legend: "broken {{instance}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "Who is turned away?",
			About: "Requests a second without a valid token (401), without the right (403), or " +
				"for what they may not see (404), by route.",
			Unit: "reqps",
			Queries: []Query{
				{
					Expr: rate("ehi_http_requests_total", "route, status",
						`, status=~"401|403|404"`),
					Legend: "{{status}} {{route}}",
					Idle:   true,
				},
			},
		},
		{
			Title: "Who is held up after failures?",
			About: "Requests a second answered 429 because an address (--address-failures) or " +
				"a client (--client-failures) had failed too often, or a name had been given " +
				"with wrong passwords (account).",
			Unit: "ops",
			Queries: []Query{
				{Expr: rate("ehi_abuse_refused_total", "what", ""), Legend: "{{what}}"},
			},
		},
		{
			Title: "What does the audit trail record?",
			About: "Events a second, by action and outcome. GET /admin/audit has them.",
			Unit:  "ops",
			Queries: []Query{
				{
					Expr:   rate("ehi_audit_events_total", "action, outcome", ""),
					Legend: "{{action}} {{outcome}}",
				},
			},
		},
		{
			Title: "Is anything missing from the audit trail?",
			About: "Events that could not be stored, in an hour; the log has what they say. " +
				"Anything but 0 wants a look at NATS.",
			Unit: "short",
			Warn: 1,
			Queries: []Query{
				{
					Expr:   `sum(increase(ehi_audit_lost_total{instance=~"$instance"}[1h]))`,
					Legend: "lost",
				},
			},
		},
		{
			Title: "How many pages of administrators are open?",
			About: "Pages that are told of changes as they happen, and those a second that " +
				"took the news too slowly and ask again.",
			Unit: "short",
			Queries: []Query{
				{Expr: `sum(ehi_admin_pages_open{instance=~"$instance"})`, Legend: "open"},
				{
					Expr:   `sum(rate(ehi_admin_pages_dropped_total{instance=~"$instance"}[$__rate_interval]))`,
					Legend: "too slow, a second",
				},
			},
		},
		{
			Title: "Can clients' keys be fetched?",
			About: "Fetches of jwks_uri a second, by outcome. A client whose keys cannot be " +
				"fetched gets invalid_client; the log says why.",
			Unit: "ops",
			Queries: []Query{
				{Expr: rate("ehi_client_keys_fetched_total", "outcome", ""), Legend: "{{outcome}}"},
			},
		},
		{
			Title: "How long is the certificate good for?",
			About: "Time until the certificate of --tls-cert expires. A renewed file is read " +
				"without a restart.",
			Unit: "s",
			Queries: []Query{
				{
					Expr: `ehi_certificate_expiry_timestamp_seconds{instance=~"$instance"} - ` +
						`time()`,
					Legend: "{{instance}}",
					Idle:   true,
				},
			},
		},
	},
}

// ofRun returns the rate of a counter of the load generator.
func ofRun(metric, by, where string) string {
	return fmt.Sprintf(`sum by (%s) (rate(%s{run=~"$run"%s}[$__rate_interval]))`, by, metric, where)
}

func stepQuantile(q, where string) string {
	return quantile(q, "ehi_load_step_duration_seconds", "run, step", `run=~"$run"`+where)
}

var benchmark = Board{
	ID:    "ehi-benchmark",
	Title: "EHI: benchmark",
	About: "What does a run of bench/load get, and what limits it? Runs are told apart by their " +
		"name (--run), and their beginnings are marked.",
	Runs: true,
	Panels: []Panel{
		{
			Title:   "How many flows a second?",
			About:   "Flows that ended well, by run: the figure to compare runs by.",
			Unit:    "ops",
			Queries: []Query{{Expr: ofRun("ehi_load_flows_total", "run", ""), Legend: "{{run}}"}},
		},
		{
			Title: "How much is verified?",
			About: "Bytes a second that were downloaded and found right, by run.",
			Unit:  "Bps",
			Queries: []Query{
				{Expr: ofRun("ehi_load_verified_bytes_total", "run", ""), Legend: "{{run}}"},
			},
		},
		{
			Title: "How many resources are verified?",
			About: "A second, by run.",
			Unit:  "ops",
			Queries: []Query{
				{Expr: ofRun("ehi_load_verified_resources_total", "run", ""), Legend: "{{run}}"},
			},
		},
		{
			Title: "How long does a whole flow take?",
			About: "Median and the slowest of a hundred, by run. In an open model (--rate) the " +
				"wait for a free user counts.",
			Unit: "s",
			Queries: []Query{
				{Expr: stepQuantile("0.5", `, step="flow"`), Legend: "p50 {{run}}"},
				{Expr: stepQuantile("0.99", `, step="flow"`), Legend: "p99 {{run}}"},
			},
		},
		{
			Title: "Which step is slow?",
			About: "The slowest of a hundred, by step and run. 'complete' is from the " +
				"kick-off's answer to the manifest.",
			Unit: "s",
			Queries: []Query{
				{Expr: stepQuantile("0.99", `, step!="flow"`), Legend: "{{step}} {{run}}"},
			},
		},
		{
			Title: "What went wrong?",
			About: "Errors a second by step and kind; 'verification' is a wrong file. Below them " +
				"the refusals that were obeyed.",
			Unit: "ops",
			Bad:  0.001,
			Queries: []Query{
				{
					Expr:   ofRun("ehi_load_errors_total", "run, step, kind", ""),
					Legend: "{{step}}: {{kind}} {{run}}",
					Idle:   true,
				},
				{
					Expr:   ofRun("ehi_load_refused_total", "run, step", ""),
					Legend: "refused {{step}} {{run}}",
					Idle:   true,
				},
			},
		},
		{
			Title:   "Where do the run's jobs stand?",
			About:   "As its users know them.",
			Unit:    "short",
			Stacked: true,
			Queries: []Query{
				{
					Expr:   `sum by (run, state) (ehi_load_jobs{run=~"$run"})`,
					Legend: "{{state}} {{run}}",
				},
			},
		},
		{
			Title: "What does the server write meanwhile?",
			About: "Bytes of export files a second.",
			Unit:  "Bps",
			Queries: []Query{
				{Expr: rate("ehi_pipeline_bytes_total", "instance", ""), Legend: "{{instance}}"},
			},
		},
		{
			Title: "What limits it: the processors?",
			About: "Processors that each instance uses.",
			Unit:  "short",
			Queries: []Query{
				{
					Expr:   `rate(process_cpu_seconds_total{instance=~"$instance"}[$__rate_interval])`,
					Legend: "{{instance}}",
				},
			},
		},
		{
			Title: "What limits it: the disk?",
			About: "Seconds a second that syncs took, all writers together.",
			Unit:  "percentunit",
			Queries: []Query{
				{
					Expr: rate("ehi_files_sync_duration_seconds_sum", "what", "") +
						` or sum by (what) ` +
						`(histogram_sum(rate(ehi_files_sync_duration_seconds{` +
						`instance=~"$instance"}[$__rate_interval])))`,
					Legend: "{{what}}",
				},
			},
		},
		{
			Title: "What limits it: an actor, or the queue?",
			About: "Waits for room in mailboxes by actor, in seconds a second, and the share of " +
				"busy workers.",
			Unit: "percentunit",
			Queries: []Query{
				{
					Expr:   rate("ehi_mailbox_blocked_seconds_total", "actor", ""),
					Legend: "blocked: {{actor}}",
				},
				{
					Expr: `sum by (lane) (ehi_workers_busy{instance=~"$instance"}) / (sum by ` +
						`(lane) (ehi_workers{instance=~"$instance"}) > 0)`,
					Legend: "busy: {{lane}}",
				},
			},
		},
	},
}
