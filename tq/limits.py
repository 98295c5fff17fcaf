"""Every bound of tq, with its unit, and the relations between them. Nothing else may invent a number.

Names: what is bounded, then the unit, then ``_max`` / ``_min`` / ``_default``.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

# ---- what a task may carry -------------------------------------------------------------------------
ID_BYTES: Final = 16
PAYLOAD_BYTES_MAX: Final = 10 * MIB
RESULT_BYTES_MAX: Final = 10 * MIB
CHECKPOINT_BYTES_MAX: Final = 64 * KIB  # what a handler keeps for the next attempt
PROGRESS_NOTE_CHARS_MAX: Final = 256
PROGRESS_NUMBER_MAX: Final = 1 << 53  # exact in any language's floats
PROGRESS_MS: Final = 300  # between two reports of one worker
ERROR_TEXT_BYTES_MAX: Final = 64 * KIB  # of one attempt's error; longer is cut, with a mark
HEADERS_BYTES_MAX: Final = 8 * KIB
TAGS_MAX: Final = 32
TAG_CHARS_MAX: Final = 128
NAME_CHARS_MAX: Final = 128  # type, queue, worker name
KEY_CHARS_MAX: Final = 256  # unique and idempotency keys
CONTENT_TYPE_CHARS_MAX: Final = 128
SPEC_OVERHEAD_BYTES_MAX: Final = 64 * KIB  # a task as sent, less its payload
SPEC_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + SPEC_OVERHEAD_BYTES_MAX
PRIORITY_MIN: Final = 0
PRIORITY_MAX: Final = 255
PRIORITY_DEFAULT: Final = 150
PRIORITY_NORMAL_MIN: Final = 100  # bands: low 0-99, normal 100-199, high 200-255
PRIORITY_HIGH_MIN: Final = 200
DURATION_MS_MAX: Final = 10 * 366 * DAY_MS  # any delay, expiry, deadline, time-to-live
TIME_MS_MAX: Final = 1 << 48  # any absolute time

# ---- retry, crash, snooze --------------------------------------------------------------------------
ATTEMPTS_DEFAULT: Final = 5
ATTEMPTS_MAX: Final = 10_000
BACKOFF_BASE_MS_DEFAULT: Final = 5 * SECOND_MS
BACKOFF_FACTOR_MILLI_DEFAULT: Final = 2_000  # thousandths: 2.0
BACKOFF_FACTOR_MILLI_MAX: Final = 100_000
BACKOFF_CAP_MS_DEFAULT: Final = HOUR_MS
BACKOFF_JITTER_MILLI_DEFAULT: Final = 200  # thousandths of the wait, either way: 20 %
CRASHES_MAX_DEFAULT: Final = 3
SNOOZES_MAX: Final = 1_000  # the next one counts as a failure
CANCEL_GRACE_MS_DEFAULT: Final = 10 * SECOND_MS

# ---- leases and sessions ---------------------------------------------------------------------------
LEASE_MS_DEFAULT: Final = 30 * SECOND_MS
HEARTBEAT_MS_DEFAULT: Final = 15 * SECOND_MS
SESSION_MS_DEFAULT: Final = 30 * SECOND_MS  # without any request: two missed heartbeats
CLAIM_WAIT_MS_MAX: Final = 30 * SECOND_MS
CLAIM_TASKS_MAX: Final = 1_000
SESSION_TASKS_MAX: Final = 1_000  # held at once by one session
SESSION_TYPES_MAX: Final = 1_000
SESSION_QUEUES_MAX: Final = 100
DRAIN_MS_DEFAULT: Final = MINUTE_MS
WORKER_CONCURRENCY_DEFAULT: Final = 4

# ---- requests --------------------------------------------------------------------------------------
BATCH_TASKS_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 12 * MIB  # specs of one submit, results of one report
GRANT_BYTES_MAX: Final = 12 * MIB  # one claim's grants, at least one task
FRAME_BYTES_MAX: Final = 16 * MIB  # type byte and body
FRAME_HELLO_BYTES_MAX: Final = 64 * KIB  # before HELLO is answered
CBOR_DEPTH_MAX: Final = 16
ENTRY_DEPTH_MAX: Final = CBOR_DEPTH_MAX + 8  # what a message held stands a few levels deeper in the log
SOCKET_READ_BYTES: Final = 120 * KIB  # at once; from 128 KiB on, glibc maps fresh pages for each read: 12 µs
REQUESTS_IN_FLIGHT_MAX: Final = 1_024  # a connection
CONNECTIONS_MAX: Final = 10_000
SESSION_CLAIMS_PARKED_MAX: Final = 1
CONNECTION_OUT_BYTES_MAX: Final = 64 * MIB  # replies not yet read by the peer
SUBSCRIBER_EVENTS_MAX: Final = 10_000  # not yet read; a slower one is cut off
EVENTS_REPLAY_MAX: Final = 10_000
WAITERS_MAX: Final = 100_000  # of WAIT_TASK, a node
WAIT_MS_MAX: Final = 30 * SECOND_MS  # one WAIT_TASK; a client asks again
LIST_TASKS_MAX: Final = 1_000  # a page
LIST_HEADERS_MAX: Final = 4_000  # looked at for a page, or what costs as much; the cursor goes on behind it
LIST_READ_BYTES_MAX: Final = 4 * MIB  # of specs and history, for a page
HISTORY_ROWS_MAX: Final = 64  # a task; older ones folded into a count
NAMES_MAX: Final = 65_536  # queues and types ever seen
QUEUE_LENGTH_MAX: Final = 10**12  # what max_length of a queue may be set to
QUEUE_REASON_CHARS_MAX: Final = 500  # why it is paused
QUEUE_FULL_RETRY_AFTER_MS: Final = 1_000
HELLO_TIMEOUT_MS: Final = 10 * SECOND_MS
IDLE_TIMEOUT_MS: Final = 5 * MINUTE_MS  # no frame at all; clients send PING
GRACEFUL_STOP_MS: Final = 10 * SECOND_MS
OVERLOAD_RETRY_AFTER_MS: Final = 500

# ---- the log ---------------------------------------------------------------------------------------
ENTRY_BYTES_MAX: Final = 32 * MIB
ENTRY_OPERATIONS_MAX: Final = 1_000  # tasks touched by what one entry groups; keeps the p99 down
ENTRY_TARGET_BYTES: Final = 1 * MIB  # an entry is closed above this, unless one command is larger
ENTRY_GRANTS_MAX: Final = 1_000
ENTRY_READ_BYTES_MAX: Final = 64 * MIB  # stored tasks read again by what buries or retries many
FENCE_ORDINALS: Final = 1_024  # fence = index * 1,024 + ordinal of the grant
APPEND_BATCH_BYTES: Final = 48 * MIB
PROPOSER_QUEUE_COMMANDS_MAX: Final = 20_000
PROPOSER_QUEUE_BYTES_MAX: Final = 128 * MIB
JOB_SLICE_TASKS: Final = 500  # of a bulk retry or purge, an entry
ADVANCE_SLICE_TASKS: Final = 500  # due timers, an entry
JOBS_MAX: Final = 100
JOURNAL_SEGMENT_BYTES: Final = 64 * MIB
JOURNAL_TAIL_BYTES_MAX: Final = 8 * MIB  # of payloads kept in memory, besides what is not synced yet

# ---- store -----------------------------------------------------------------------------------------
CHECKPOINT_MS_DEFAULT: Final = 100
CHECKPOINT_DIRTY_BYTES_MAX: Final = 32 * MIB  # a checkpoint is taken sooner
DISK_FREE_BYTES_MIN_DEFAULT: Final = 512 * MIB
MAP_BYTES_INITIAL: Final = 256 * MIB
MAP_HEADROOM_BYTES: Final = 128 * MIB

# ---- retention -------------------------------------------------------------------------------------
RESULT_TTL_MS_DEFAULT: Final = DAY_MS
FINISHED_KEEP_MS_DEFAULT: Final = DAY_MS
FINISHED_KEEP_TASKS_DEFAULT: Final = 1_000_000
DEAD_KEEP_MS_DEFAULT: Final = 30 * DAY_MS
TOMBSTONE_KEEP_MS_DEFAULT: Final = DAY_MS  # also the memory window of ids and operation ids

# ---- clocks ----------------------------------------------------------------------------------------
CLOCK_OFFSET_WARN_MS: Final = 5 * SECOND_MS
CLOCK_OFFSET_LEAD_MS_MAX: Final = 60 * SECOND_MS

# ---- raft ------------------------------------------------------------------------------------------
RAFT_HEARTBEAT_MS_DEFAULT: Final = 150
RAFT_ELECTION_MS_DEFAULT: Final = (600, 1_200)
RAFT_HEARTBEAT_MS_FAST: Final = 50
RAFT_ELECTION_MS_FAST: Final = (200, 400)
COMMIT_TELL_MS: Final = 1  # a commit index waits so long for an append that tells it to the members
RAFT_PROPOSALS_MAX: Final = 1_024  # proposed and not yet committed
RAFT_PROPOSALS_BYTES_MAX: Final = 128 * MIB
RAFT_ALONE_WAKE_MS: Final = 500  # a leader without others has nothing to do by time; SyncObj's own chores
RAFT_VOTERS_MAX: Final = 7
READY_LAG_ENTRIES_MAX: Final = 100  # a follower that lacks more of what the leader has committed is not ready
PEER_BATCH_BYTES: Final = 1 * MIB  # of entries in one message, unless one entry is larger
PEER_BATCH_ENTRIES_MAX: Final = 4_096
PEER_INFLIGHT_BYTES_MAX: Final = 8 * MIB  # of entries sent to a member and not acknowledged
PEER_INFLIGHT_MESSAGES_MAX: Final = 128
SNAPSHOT_PART_BYTES: Final = 1 * MIB
SNAPSHOT_MAKE_MS_MAX: Final = 5 * MINUTE_MS  # a reader of the store for longer lets its file grow too much
SNAPSHOT_OFFER_HOLD_MS: Final = 5 * SECOND_MS  # the log is held for one on offer until its first part is sent
SNAPSHOT_KEEP_MS: Final = 30 * SECOND_MS  # one that nobody reads is kept, for a member that was cut off for a moment
SNAPSHOT_RETRY_MS: Final = 10 * SECOND_MS  # after one that could not be made
SNAPSHOT_HOLD_MS: Final = 10 * MINUTE_MS  # a snapshot that takes longer no more keeps the log from being compacted
RAFT_KEEP_BYTES: Final = 256 * MIB  # of compacted log that a group keeps, for members that were away for a while
SYNC_SAMPLES: Final = 256  # durations kept for the percentiles
SYNC_MEDIAN_SLOW_MS: Final = 1  # above either of these "auto" takes the thread, below half of both it comes back
SYNC_P99_SLOW_MS: Final = 20

# ---- between nodes ---------------------------------------------------------------------------------
PEER_CHUNK_BYTES: Final = 256 * KIB  # larger messages travel in pieces, and signs of life between them
PEER_MESSAGE_BYTES_MAX: Final = 48 * MIB
PEER_OUT_BYTES_MAX: Final = 128 * MIB  # waiting for one peer
PEER_URGENT_BYTES_MAX: Final = 1 * MIB  # of that, kept for signs of life
PEER_HANDSHAKE_MS: Final = 5 * SECOND_MS  # from connected to known
PEER_SOCKET_BYTES: Final = 4 * MIB  # asked of the kernel, each way
PEER_STRANGERS_MAX: Final = 64  # connections that are not known yet
PEER_PING_MS: Final = 1 * SECOND_MS  # of silence
PEER_SILENCE_MS: Final = 5 * SECOND_MS  # after which a connection is given up
PEER_DIAL_MS_MIN: Final = 50  # between two tries, doubled each time
PEER_DIAL_MS_MAX: Final = 1 * SECOND_MS

# ---- ports -----------------------------------------------------------------------------------------
PORT_CLIENT: Final = 7379
PORT_PEER: Final = 7380
PORT_HTTP: Final = 8080
PORT_METRICS: Final = 9091

# ---- relations -------------------------------------------------------------------------------------
assert PAYLOAD_BYTES_MAX < SPEC_BYTES_MAX < BATCH_BYTES_MAX < FRAME_BYTES_MAX
assert SPEC_BYTES_MAX < GRANT_BYTES_MAX < FRAME_BYTES_MAX
assert RESULT_BYTES_MAX < BATCH_BYTES_MAX
assert FRAME_BYTES_MAX < ENTRY_BYTES_MAX < APPEND_BATCH_BYTES
assert ENTRY_TARGET_BYTES < ENTRY_BYTES_MAX
assert BATCH_TASKS_MAX <= ENTRY_OPERATIONS_MAX
assert ENTRY_GRANTS_MAX < FENCE_ORDINALS
assert SPEC_BYTES_MAX < ENTRY_READ_BYTES_MAX
assert CLAIM_TASKS_MAX <= ENTRY_GRANTS_MAX
assert SESSION_TASKS_MAX <= ENTRY_OPERATIONS_MAX  # the end of a session fits one entry
assert APPEND_BATCH_BYTES <= PEER_MESSAGE_BYTES_MAX < PEER_OUT_BYTES_MAX - PEER_URGENT_BYTES_MAX
assert PEER_CHUNK_BYTES < PEER_URGENT_BYTES_MAX
assert ENTRY_BYTES_MAX < PROPOSER_QUEUE_BYTES_MAX
assert ENTRY_BYTES_MAX < RAFT_PROPOSALS_BYTES_MAX
assert 2 * PEER_BATCH_BYTES <= PEER_INFLIGHT_BYTES_MAX
assert HEARTBEAT_MS_DEFAULT * 2 <= LEASE_MS_DEFAULT
assert CHECKPOINT_DIRTY_BYTES_MAX < MAP_HEADROOM_BYTES < MAP_BYTES_INITIAL
assert BACKOFF_BASE_MS_DEFAULT <= BACKOFF_CAP_MS_DEFAULT <= DURATION_MS_MAX < TIME_MS_MAX
