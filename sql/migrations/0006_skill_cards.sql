-- Skill cards: what each skill is found by, and the 24 that everybody has, in six groups.
--
-- A skill is found by its card: name, description and keywords are embedded, and a tool belongs to
-- the skills whose cards are nearest to it. Cards are rows, to be edited. An organisation that has a
-- skill of the same name as a global one has its own card in that one's place.
--
-- A skill that is there already under one of these names keeps its id and its description. What the
-- way back put aside is taken up again, and nothing new is dealt then: a skill that was deleted
-- stays deleted.
--
-- Way back: 0006_skill_cards.down.sql keeps the columns in skill_categories_backup_0006.

-- 1. Columns with safe defaults

ALTER TABLE mcp.skill_categories
    ADD COLUMN IF NOT EXISTS group_name text NOT NULL DEFAULT ''
        CHECK (char_length(group_name) <= 255),
    ADD COLUMN IF NOT EXISTS keywords text[] NOT NULL DEFAULT '{}';

-- 2. The cards. A name that is there draws no id

WITH card (place, group_name, name, description, keywords) AS (VALUES
    (1, 'Productivity', 'calendar',
        'Calendar: create, move, cancel and look up events, meetings and appointments, invite '
        'attendees, find a free slot, convert time zones. Google Calendar, Outlook, iCal, '
        'Calendly.',
        '{calendar event, meeting, appointment, availability, agenda, booking a slot, upcoming '
        'deadlines, current date and time, time zone, holiday}'),
    (2, 'Productivity', 'tasks',
        'Tasks, issues and tickets: create, assign, update, prioritise, link and close to-dos, '
        'bugs and user stories on boards, in lists, sprints, backlogs and projects. Jira, Linear, '
        'Asana, Trello, Todoist, ClickUp.',
        '{task, to-do list, issue, ticket, bug report, epic, sprint, backlog, board, card, '
        'project, milestone, work item, assignee}'),
    (3, 'Productivity', 'notes',
        'Notes and knowledge: write down, organise, link and recall notes, wiki pages, memories, '
        'ideas and bookmarks. Notion, Obsidian, Evernote, OneNote, Confluence, a knowledge graph '
        'or a notebook.',
        '{note, wiki page, notebook, memory, knowledge base, knowledge graph entity, journal, '
        'idea, bookmark, page block}'),
    (4, 'Productivity', 'time tracking',
        'Time tracking: start and stop timers, log hours worked on a task, list worklogs and '
        'timesheets, sum billable time. Toggl, Harvest, Clockify, Tempo.',
        '{timer, timesheet, worklog, hours worked, billable time, time entry, attendance, '
        'overtime}'),
    (5, 'Communication', 'email',
        'Email: send, draft, reply to, forward, read, search, label and archive mail in an inbox, '
        'with recipients, subject and attachments. Gmail, Outlook, IMAP, SMTP, Mailchimp.',
        '{email, mail, inbox, draft, email address, recipient, newsletter, mailing list, mailbox}'),
    (6, 'Communication', 'messaging',
        'Messaging and chat: post and read messages in channels, threads, groups and direct '
        'chats, send SMS, react to a message. Slack, Discord, Telegram, WhatsApp, Microsoft '
        'Teams, Twilio.',
        '{message, chat, chat channel, thread, direct message, sms, conversation, emoji reaction, '
        'phone call}'),
    (7, 'Communication', 'notifications',
        'Notifications and alerts to people: push a notification, set up, list, mute and '
        'acknowledge alerts, watch a topic and be told of what is new, page who is on call. '
        'PagerDuty, Pushover, ntfy, Opsgenie.',
        '{notification, alert, reminder, push notification, watch a topic, mute, incident, on '
        'call, announcement}'),
    (8, 'Communication', 'collaboration',
        'Collaboration: work with others on shared content: comment, review, mention, share, '
        'follow, find users and teams, discuss and approve pull requests, join video calls and '
        'workspaces. GitHub, GitLab, Google Docs, Zoom, Miro.',
        '{comment, code review, pull request, merge request, team, member, user profile, watcher, '
        'whiteboard, workspace, video call, discussion, reply}'),
    (9, 'Data', 'query',
        'Query data: run SQL or another query against a database, list its databases, tables, '
        'collections and indexes, describe a schema, read, insert, update and delete records, '
        'keys and rows. PostgreSQL, MySQL, SQLite, MongoDB, Redis, Elasticsearch, Airtable.',
        '{sql query, database, table, schema, collection, record, row, column, key and value, '
        'index, search documents, graph database}'),
    (10, 'Data', 'analysis',
        'Analyse data: compute statistics, aggregate, compare, forecast, find trends, '
        'correlations and outliers, summarise, classify, score and evaluate. Pandas, NumPy, '
        'machine learning, reports.',
        '{data analysis, statistics, aggregation, trend, forecast, insight, correlation, '
        'calculation, machine learning model, evaluation, performance and costs, sentiment, pivot '
        'table}'),
    (11, 'Data', 'visualisation',
        'Visualise data: draw charts, graphs, plots, diagrams, maps and dashboards from figures: '
        'bar, line, pie, scatter, histogram, heat map, flow chart, mind map. Mermaid, Plotly, '
        'Grafana.',
        '{chart, graph, plot, diagram, route map, dashboard, histogram, flowchart, mind map, '
        'visualisation}'),
    (12, 'Data', 'export',
        'Export and convert data: download results as CSV, JSON, PDF or Markdown, back up, dump, '
        'import and migrate data, convert one format into another. Pandoc, BibTeX, ETL.',
        '{export, import, convert format, csv, json, dump, backup, data migration, markdown '
        'conversion}'),
    (13, 'File', 'file operations',
        'Files and folders on disk: read, write, edit, create, copy, move, rename, delete, list '
        'and search files and directories, look at size and metadata, find text in source code.',
        '{file, folder, directory, path, read file, write file, move or rename, search files, '
        'compress, source code search}'),
    (14, 'File', 'documents',
        'Documents: create, read, fill in and format PDF, Word, Excel, PowerPoint and Google Docs '
        'files: pages, sections, paragraphs, headings, sheets, cells, slides, forms and papers.',
        '{document, pdf, word document, spreadsheet, workbook, worksheet, cell range, slide, '
        'presentation, paragraph, paper, latex, documentation page, resume}'),
    (15, 'File', 'media',
        'Media: make, edit, show and convert images, photos, screenshots, audio, music, video and '
        'speech: resize, crop, transcribe, record, play, generate a picture. YouTube, Spotify, '
        'FFmpeg, DALL-E, Figma.',
        '{image, photo, screenshot, video, audio, music, voice, speech, transcript, screen '
        'recording, thumbnail, icon, svg, design}'),
    (16, 'File', 'cloud storage',
        'Cloud storage: upload, download, share, list and sync files, attachments and buckets '
        'kept online. Google Drive, Dropbox, OneDrive, Box, Amazon S3, Azure Blob Storage.',
        '{upload, bucket, object storage, drive, shared link, attachment, file sync, blob, s3, '
        'ipfs}'),
    (17, 'Integration', 'apis',
        'HTTP and developer documentation: send an HTTP request, fetch a URL, call a REST or '
        'GraphQL endpoint, look up SDK, package and library documentation and code examples, read '
        'an OpenAPI schema. Postman, curl, npm.',
        '{http request, rest endpoint, graphql, fetch a url, sdk, library documentation, code '
        'examples, openapi, package registry, api gateway route}'),
    (18, 'Integration', 'webhooks',
        'Webhooks and event streams: register, list, test and delete webhooks and callback URLs, '
        'subscribe to events, publish to and read from a queue, topic or stream. Kafka, RabbitMQ, '
        'pub/sub, Svix.',
        '{webhook, callback url, event subscription, publish to a channel, queue, topic, event '
        'stream, consumer group}'),
    (19, 'Integration', 'third-party services',
        'Services of others that are looked things up in or bought from: web search, weather, '
        'maps, travel, shopping, payments, customers, social media, news, finance, crypto, '
        'sports, science. Google, Stripe, Shopify, Salesforce, Twitter.',
        '{web search, weather, places and addresses, travel and hotels, online shop, order, '
        'payment, invoice, customer, company profile, social media post, news, stock price, '
        'cryptocurrency token, blockchain wallet, sports player, game, research papers, movie, '
        'recipe, job listing, real estate, translation, health and fitness}'),
    (20, 'Integration', 'automation',
        'Automation: build, run, test and schedule workflows, pipelines, jobs and scripts, drive '
        'a web browser: click, type, fill in forms, navigate and scrape pages. n8n, Zapier, '
        'GitHub Actions, Playwright, Puppeteer, Selenium.',
        '{workflow, pipeline, trigger, scheduled job, browser page, click an element, type text, '
        'navigate, fill in a form, scrape, run a script, template, smart home}'),
    (21, 'System', 'configuration',
        'Configuration: get, set, validate and reset settings, options, preferences, environment '
        'variables, feature flags, connections and infrastructure templates. Terraform, '
        'CloudFormation, YAML.',
        '{configuration, settings, option, environment variables, preferences, validate a '
        'template, feature flag, connection, dns record}'),
    (22, 'System', 'monitoring',
        'Monitoring: watch health, status, logs, metrics, traces, errors, uptime, performance and '
        'usage of servers, services, networks and web pages. Datadog, Prometheus, Grafana, '
        'Sentry, New Relic, browser developer tools.',
        '{monitor, logs, metrics, trace, health check, status, uptime, latency, errors, console '
        'messages, network requests, profiling, usage statistics}'),
    (23, 'System', 'security',
        'Security and access: manage permissions, roles, credentials, passwords, keys, tokens and '
        'secrets, sign in, restrict who may view or edit, audit, scan for vulnerabilities, '
        'encrypt, check compliance. Vault, Okta, Snyk, VirusTotal.',
        '{permission, access control, role, credentials, password, api token, secret, '
        'restriction, audit, vulnerability scan, encryption, compliance, ip access list, '
        'firewall, authentication, multi-factor}'),
    (24, 'System', 'administration',
        'Administration of machines and accounts: start, stop and list processes, containers, '
        'clusters, hosts and services, create users and projects, run shell commands, deploy, '
        'manage versions, branches and repositories. Docker, Kubernetes, AWS, Linux, git.',
        '{process, server, cluster, container, virtual machine, deployment, terminal, shell '
        'command, kill, restart, user account, install, git commit, branch, repository, cloud '
        'instance}')
), dealt AS (
    SELECT place, group_name, name, description, keywords::text[] FROM card
    WHERE to_regclass('mcp.skill_categories_backup_0006') IS NULL
), completed AS (
    UPDATE mcp.skill_categories AS skill
    SET group_name = dealt.group_name, keywords = dealt.keywords, updated_at = now(),
        description = coalesce(nullif(skill.description, ''), dealt.description)
    FROM dealt WHERE skill.name = dealt.name AND skill.is_global
)
INSERT INTO mcp.skill_categories (name, description, group_name, keywords)
SELECT name, description, group_name, keywords FROM dealt
WHERE NOT EXISTS (
    SELECT FROM mcp.skill_categories AS skill WHERE skill.name = dealt.name AND skill.is_global
)
ORDER BY place;

-- 3. What the way back put aside

CREATE TABLE IF NOT EXISTS mcp.skill_categories_backup_0006 (
    id integer PRIMARY KEY, group_name text NOT NULL, keywords text[] NOT NULL
);

UPDATE mcp.skill_categories AS skill
SET group_name = kept.group_name, keywords = kept.keywords
FROM mcp.skill_categories_backup_0006 AS kept WHERE kept.id = skill.id;

DROP TABLE IF EXISTS mcp.skill_categories_backup_0006;
