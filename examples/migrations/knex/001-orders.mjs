/** @param {import('knex').Knex} knex */
export async function up(knex) {
  await knex.schema.createTable('orders', (table) => {
    table.bigIncrements('id')
    table.text('customer').notNullable()
  })
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  await knex.schema.dropTable('orders')
}
