BEGIN TRANSACTION;
CREATE TABLE campaign_edits (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, time_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
  campaign_id TEXT NOT NULL, document BLOB NOT NULL) STRICT;
INSERT INTO "campaign_edits" VALUES(1,1700000000000,'ann','create','spring',X'0A06737072696E67120461636D6522035553442A035554434A140A0573686F657322026930220269312880ADE2046002');
CREATE TABLE campaigns (
  campaign_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, document BLOB NOT NULL) STRICT;
INSERT INTO "campaigns" VALUES('spring',1,X'0A06737072696E67120461636D6522035553442A035554434A140A0573686F657322026930220269312880ADE2046002');
CREATE TABLE erasures (mark BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
INSERT INTO "erasures" VALUES(X'22D82DF07F57B43690349C124D259A3D');
CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        subject_key INTEGER NOT NULL,
        anonymous_key INTEGER NOT NULL DEFAULT 0,
        type INTEGER NOT NULL,
        item_key INTEGER NOT NULL DEFAULT 0,
        time_ms INTEGER NOT NULL,
        quantity REAL NOT NULL DEFAULT 1,
        price_micros INTEGER NOT NULL DEFAULT 0,
        channel TEXT NOT NULL DEFAULT '',
        request_id TEXT NOT NULL DEFAULT '',
        position INTEGER NOT NULL DEFAULT -1
    ) STRICT;
INSERT INTO "events" VALUES(1,'e0',11457148903116398,0,1,1,1700000000000,1.0,0,'web','r1',0);
INSERT INTO "events" VALUES(2,'e1',3907623789260631929,0,2,2,1700000000001,2.0,1000,'web','r1',1);
INSERT INTO "events" VALUES(3,'erased-3',3098905065309925751,0,3,3,1700000000002,1.0,2000,'web','',2);
INSERT INTO "events" VALUES(4,'e3',2962928430192511912,0,1,4,1700000000003,2.0,3000,'web','r1',3);
INSERT INTO "events" VALUES(5,'e4',1345239345958489161,0,2,5,1700000000004,1.0,4000,'web','r1',4);
INSERT INTO "events" VALUES(6,'erased-6',3098905065309925751,0,3,1,1700000000005,2.0,5000,'web','',5);
INSERT INTO "events" VALUES(7,'e6',2962928430192511912,0,1,2,1700000000006,1.0,6000,'web','r1',6);
INSERT INTO "events" VALUES(8,'e7',3907623789260631929,0,2,3,1700000000007,2.0,7000,'web','r1',7);
INSERT INTO "events" VALUES(9,'e8',3839154692721334589,0,3,4,1700000000008,1.0,8000,'web','r1',8);
INSERT INTO "events" VALUES(10,'e9',2962928430192511912,0,1,5,1700000000009,2.0,9000,'web','r1',9);
INSERT INTO "events" VALUES(11,'e10',3907623789260631929,0,2,1,1700000000010,1.0,10000,'web','r1',10);
INSERT INTO "events" VALUES(12,'erased-12',3098905065309925751,0,3,2,1700000000011,2.0,11000,'web','',11);
INSERT INTO "events" VALUES(13,'login-1',3907623789260631929,1345239345958489161,8,0,1700000000050,1.0,0,'','',-1);
INSERT INTO "events" VALUES(14,'erase-dd5244e20bc84bd9',3098905065309925751,0,100,0,1700000000060,1.0,0,'','',-1);
CREATE TABLE items (
        item_key INTEGER PRIMARY KEY,
        item_id TEXT NOT NULL UNIQUE,
        in_catalog INTEGER NOT NULL DEFAULT 0,
        unavailable INTEGER NOT NULL DEFAULT 0,
        price_micros INTEGER NOT NULL DEFAULT 0,
        publish_time_ms INTEGER NOT NULL DEFAULT 0,
        expire_time_ms INTEGER NOT NULL DEFAULT 0,
        attributes TEXT NOT NULL DEFAULT '{}',
        change_sequence INTEGER NOT NULL
    ) STRICT;
INSERT INTO "items" VALUES(1,'i0',0,0,0,0,0,'{}',1);
INSERT INTO "items" VALUES(2,'i1',1,0,990000,0,0,'{"colour": "blé"}',6);
INSERT INTO "items" VALUES(3,'i2',0,1,0,0,0,'{}',8);
INSERT INTO "items" VALUES(4,'i3',0,0,0,0,0,'{}',4);
INSERT INTO "items" VALUES(5,'i4',0,0,0,0,0,'{}',5);
INSERT INTO "items" VALUES(6,'i9',1,1,5,1700000000000,1701000000000,'{}',7);
CREATE TABLE ledger_accounts(
        account_number INTEGER PRIMARY KEY, account_id TEXT NOT NULL UNIQUE, parent INTEGER NOT NULL,
        currency TEXT NOT NULL, time_zone TEXT, mode INTEGER NOT NULL, expire_after_ms INTEGER NOT NULL,
        lifetime_micros INTEGER, daily_micros INTEGER, flight_start_ms INTEGER NOT NULL,
        flight_end_ms INTEGER NOT NULL, version INTEGER NOT NULL) STRICT;
INSERT INTO "ledger_accounts" VALUES(0,'acme',-1,'USD',NULL,0,0,NULL,NULL,0,0,2);
INSERT INTO "ledger_accounts" VALUES(1,'acme/spring',0,'USD','UTC',0,0,NULL,NULL,0,0,3);
INSERT INTO "ledger_accounts" VALUES(2,'acme/spring/shoes',1,'USD',NULL,0,0,NULL,5000000,0,0,5);
CREATE TABLE ledger_audit(
        audit_id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, why TEXT NOT NULL) STRICT;
INSERT INTO "ledger_audit" VALUES(1,1700000000000,'api','set_account','acme','','{"lifetime_micros": null, "daily_micros": null, "currency": "USD", "time_zone": null, "mode": 0, "expire_after_ms": 0, "flight_start_ms": 0, "flight_end_ms": 0}','entry deposit-1');
INSERT INTO "ledger_audit" VALUES(2,1700000000000,'api','fund','acme','0','50000000','entry deposit-1');
INSERT INTO "ledger_audit" VALUES(3,1700000000000,'ann','set_account','acme/spring','','{"lifetime_micros": null, "daily_micros": null, "currency": "USD", "time_zone": "UTC", "mode": 0, "expire_after_ms": 0, "flight_start_ms": 0, "flight_end_ms": 0}','create');
INSERT INTO "ledger_audit" VALUES(4,1700000000000,'ann','set_account','acme/spring/shoes','','{"lifetime_micros": null, "daily_micros": null, "currency": "USD", "time_zone": null, "mode": 0, "expire_after_ms": 0, "flight_start_ms": 0, "flight_end_ms": 0}','create');
INSERT INTO "ledger_audit" VALUES(5,1700000000000,'ann','set_account','acme/spring/shoes','{"lifetime_micros": null, "daily_micros": null, "currency": "USD", "time_zone": null, "mode": 0, "expire_after_ms": 0, "flight_start_ms": 0, "flight_end_ms": 0}','{"lifetime_micros": null, "daily_micros": 5000000, "currency": "USD", "time_zone": null, "mode": 0, "expire_after_ms": 0, "flight_start_ms": 0, "flight_end_ms": 0}','trial');
INSERT INTO "ledger_audit" VALUES(6,1700000000000,'ann','brake','exchange=badx advertiser=','','engaged','fraud');
CREATE TABLE ledger_brakes(
        exchange TEXT NOT NULL, advertiser_id TEXT NOT NULL, reason TEXT NOT NULL, who TEXT NOT NULL,
        since_ms INTEGER NOT NULL, PRIMARY KEY(exchange, advertiser_id)) STRICT, WITHOUT ROWID;
INSERT INTO "ledger_brakes" VALUES('badx','','fraud','ann',1700000000000);
CREATE TABLE ledger_funds(
        entry_id TEXT PRIMARY KEY, account_number INTEGER NOT NULL, amount_micros INTEGER NOT NULL,
        time_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "ledger_funds" VALUES('deposit-1',0,50000000,1700000000000);
CREATE TABLE ledger_journal(
        sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, records BLOB NOT NULL) STRICT;
INSERT INTO "ledger_journal" VALUES(1,1700000000000,X'01000000020000000000A0953F2F060000000000DB4C0000688909000000000000000000000000000068E5CF8B010000');
INSERT INTO "ledger_journal" VALUES(2,1700000000000,X'03040000020000000000A0953F2F060000000000DB4C000080841E0000000000E0FD1C00000000000568E5CF8B01000003020000020000000000A0953F2F060001000000DB4C000080841E000000000080841E00000000000568E5CF8B010000');
INSERT INTO "ledger_journal" VALUES(3,1700000000000,X'03030000020000000000A0953F2F060002000000DB4C000080841E000000000040548900000000000668E5CF8B010000');
INSERT INTO "ledger_journal" VALUES(4,1700000000000,X'02000000FFFFFFFF0000A0953F2F060000000000000000005C7209000000000000000000000000000000000000000000');
CREATE TABLE ledger_leases(
        lease_id INTEGER PRIMARY KEY, settled_ms INTEGER NOT NULL, records BLOB NOT NULL) STRICT;
CREATE TABLE ledger_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "ledger_meta" VALUES('epoch','1');
INSERT INTO "ledger_meta" VALUES('ledger_id','3458370023123661211');
INSERT INTO "ledger_meta" VALUES('settings_version','6');
CREATE TABLE ledger_notices_pending(
        notice_id INTEGER PRIMARY KEY AUTOINCREMENT, notice_type INTEGER NOT NULL, token TEXT NOT NULL,
        price_cpm_micros INTEGER NOT NULL, time_ms INTEGER NOT NULL) STRICT;
CREATE TABLE ledger_reconciliation(
        lease_id INTEGER NOT NULL, serial INTEGER NOT NULL, notice_type INTEGER NOT NULL, outcome INTEGER NOT NULL,
        account_number INTEGER NOT NULL, reserved_cpm_micros INTEGER NOT NULL, price_cpm_micros INTEGER,
        time_ms INTEGER NOT NULL, token TEXT NOT NULL,
        PRIMARY KEY(lease_id, serial, notice_type, outcome)) STRICT, WITHOUT ROWID;
INSERT INTO "ledger_reconciliation" VALUES(1740800000000000,2,1,4,2,2000000,9000000,1700000000006,'AQEAAgAAAAAAoJU_LwYAAgAAANtMAACAhB4AAAAAAFVTREBCDwAAAAAAF_kxaWL0rkgAaOXPiwEAAAAfdC_LSBjlDTPutUvA9MmC');
CREATE TABLE ledger_snapshots(sequence INTEGER PRIMARY KEY, records BLOB NOT NULL) STRICT;
INSERT INTO "ledger_snapshots" VALUES(4,X'05000000020000000000A0953F2F060000000000DB4C000068890900000000005C720900000000000068E5CF8B01000006000000FFFFFFFF0000A0953F2F06000000000000000000E0FD1C0000000000A00F000000000000000000000000000007000000FFFFFFFF0000A0953F2F0600000000000000000004000000000000000000000000000000000000000000000003020000020000000000A0953F2F060001000000DB4C000080841E000000000080841E0000000000000000000000000003030000020000000000A0953F2F060002000000DB4C000080841E000000000040548900000000000000000000000000');
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('log_id','97b4010ef1eb4ecb972d622535e64246');
CREATE TABLE slates (
        request_id TEXT PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        subject_key INTEGER NOT NULL,
        artifact_version TEXT NOT NULL,
        tier INTEGER NOT NULL,
        surface TEXT NOT NULL,
        item_ids TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
CREATE TABLE subjects (
        subject_key INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        external_id TEXT NOT NULL,
        created_sequence INTEGER NOT NULL,
        UNIQUE (kind, external_id)
    ) STRICT;
INSERT INTO "subjects" VALUES(11457148903116398,2,'anon0',1);
INSERT INTO "subjects" VALUES(1345239345958489161,2,'anon4',5);
INSERT INTO "subjects" VALUES(2962928430192511912,1,'u0',4);
INSERT INTO "subjects" VALUES(3839154692721334589,2,'anon8',9);
INSERT INTO "subjects" VALUES(3907623789260631929,1,'u1',2);
CREATE INDEX items_by_change ON items (change_sequence);
CREATE INDEX events_by_subject ON events (subject_key);
CREATE INDEX ledger_funds_account ON ledger_funds(account_number, amount_micros);
CREATE TRIGGER ledger_audit_no_update BEFORE UPDATE ON ledger_audit
        BEGIN SELECT RAISE(ABORT, 'the audit is immutable'); END;
CREATE TRIGGER ledger_audit_no_delete BEFORE DELETE ON ledger_audit
        BEGIN SELECT RAISE(ABORT, 'the audit is immutable'); END;
CREATE TRIGGER ledger_audit_no_replace BEFORE INSERT ON ledger_audit
        WHEN EXISTS (SELECT 1 FROM ledger_audit WHERE audit_id = NEW.audit_id)
        BEGIN SELECT RAISE(ABORT, 'the audit is immutable'); END;
CREATE INDEX campaigns_by_sequence ON campaigns (sequence);
CREATE TRIGGER campaign_edits_stay BEFORE UPDATE ON campaign_edits
  BEGIN SELECT RAISE(ABORT, 'the audit of edits is immutable'); END;
CREATE TRIGGER campaign_edits_remain BEFORE DELETE ON campaign_edits
  BEGIN SELECT RAISE(ABORT, 'the audit of edits is immutable'); END;
CREATE TRIGGER campaign_edits_last BEFORE INSERT ON campaign_edits
  WHEN EXISTS (SELECT 1 FROM campaign_edits WHERE sequence = NEW.sequence)
  BEGIN SELECT RAISE(ABORT, 'the audit of edits is immutable'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',14);
INSERT INTO "sqlite_sequence" VALUES('campaign_edits',1);
COMMIT;
