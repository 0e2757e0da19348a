#!/usr/bin/env bash
# Starts PostgreSQL as the official image does: the first time it makes user and database, with a server that only it can reach.
set -euo pipefail

# What begins with a dash is an option of the server.
if (($# == 0)) || [[ $1 == -* ]]; then set -- postgres "$@"; fi
if [[ $1 != postgres ]]; then exec "$@"; fi

if [[ $(id -u) == 0 ]]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [[ -n ${POSTGRES_PASSWORD_FILE:-} ]]; then POSTGRES_PASSWORD=$(<"$POSTGRES_PASSWORD_FILE"); fi
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

if [[ ! -s $PGDATA/PG_VERSION ]]; then
    if [[ -z ${POSTGRES_PASSWORD:-} && ${POSTGRES_HOST_AUTH_METHOD:-} != trust ]]; then
        echo 'POSTGRES_PASSWORD is not set, and POSTGRES_HOST_AUTH_METHOD is not trust' >&2
        exit 1
    fi
    read -r -a arguments <<<"${POSTGRES_INITDB_ARGS:-}"
    initdb -D "$PGDATA" -U "$user" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:-}") --auth-local=trust \
        ${arguments[@]+"${arguments[@]}"}
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
    printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
    # Without -l it writes to standard output: whoever waits for the ready line on both streams counts on that.
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    if [[ $database != postgres ]]; then
        psql -X -q -v ON_ERROR_STOP=1 -U "$user" -d postgres -v name="$database" <<<'create database :"name"'
    fi
    pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"
